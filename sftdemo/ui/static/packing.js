// One hue an example, the same in every picture; neighbours differ by the golden angle.
const hue = (example) => Math.round(example * 137.508) % 360;
let chosen = null;  // the packed row whose attention is drawn: at first the one with the most examples

const sum = (parts) => parts.reduce((total, [begin, end]) => total + end - begin, 0);

const says = (label, length, parts, earlier, isShared) => isShared
  ? t("row {row}: {all} tokens, {count} of them computed here, {earlier} in earlier rows of the batch; the last predicts nothing",
    { row: label, all: earlier + length + 1, count: length, earlier })
  : t("row {row}: {count} tokens, {trained} of them trained", { row: label, count: length, trained: sum(parts) });

// The block's colour, darker where it is trained.
const shades = (length, parts) => {
  const stops = ["var(--pale) 0"];
  for (const [begin, end] of parts) {
    const from = `${100 * begin / length}%`, to = `${100 * end / length}%`;
    stops.push(`var(--pale) ${from}`, `var(--full) ${from}`, `var(--full) ${to}`, `var(--pale) ${to}`);
  }
  return `linear-gradient(90deg, ${stops.join(", ")}, var(--pale) 100%)`;
};

const bar = (row, widest, isShared) => {
  const node = h("div", "bar");
  node.style.width = `${100 * row.width / widest}%`;
  for (const [example, label, length, parts, earlier] of row.blocks) {
    const block = h("span", length ? "block" : "block nothing", length / widest > 0.03 ? String(label) : "");
    block.style.cssText = `--hue:${hue(example)};flex:${length} 0 0`;
    if (length) block.style.background = shades(length, parts);
    block.title = says(label, length, parts, earlier, isShared);
    node.append(block);
  }
  const padding = row.width - row.blocks.reduce((sum, [, , length]) => sum + length, 0);
  if (padding > 0) {
    const pad = h("span", "padding");
    pad.style.flex = `${padding} 0 0`;
    pad.title = t("{count} positions of padding, never trained", { count: padding });
    node.append(pad);
  }
  return node;
};

const attention = (row) => {
  const box = h("figure", "attention");
  const canvas = h("canvas");
  const size = 240, total = row.width || 1;
  canvas.width = canvas.height = 2 * size;
  const context = canvas.getContext("2d");
  context.scale(2 * size / total, 2 * size / total);
  let begin = 0;
  for (const [example, , length] of row.blocks) {
    context.fillStyle = `hsl(${hue(example)} 70% 55%)`;
    context.beginPath();
    context.moveTo(begin, begin);
    context.lineTo(begin + length, begin + length);
    context.lineTo(begin, begin + length);
    context.closePath();
    context.fill();
    begin += length;
  }
  const says = row.blocks.length === 1
    ? t("Attention in this row: one triangle. Each token (a line) sees the tokens before it (to its left) of its own example only.")
    : t("Attention in this row: {count} triangles along the diagonal. Each token (a line) sees the tokens before it (to its left) of its own example only.",
      { count: row.blocks.length });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", says);
  box.append(canvas, h("figcaption", "note", says));
  return box;
};

const panel = (layout) => {
  const node = h("section", "layout " + layout.name);
  const head = h("header");
  head.append(h("h3", "", layout.title), h("span", layout.wasted ? "figure bad" : "figure", layout.figure));
  node.append(head);
  const widest = Math.max(...layout.rows.map((row) => row.width), 1);
  const bars = h("div", "bars");
  layout.rows.forEach((row, index) => {
    const drawn = bar(row, widest, layout.name === "shared");
    if (layout.name === "packed") {
      drawn.tabIndex = 0;
      drawn.setAttribute("role", "button");
      drawn.setAttribute("aria-label", t("packed row {index}: {count} examples, {width} tokens; show its attention",
        { index, count: row.blocks.length, width: row.width }));
      drawn.onclick = () => { chosen = index; draw(); };
      drawn.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); drawn.click(); } };
      drawn.classList.toggle("shown", index === chosen);
    }
    bars.append(drawn);
  });
  node.append(bars);
  if (layout.more) node.append(h("p", "note", t("and {count} more rows", { count: layout.more.toLocaleString("en") })));
  return node;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  if (!data.layouts.length) {
    place.replaceChildren(h("p", "note", data.message));
    return;
  }
  const packed = data.layouts.find((layout) => layout.name === "packed").rows;
  const most = Math.max(...packed.map((row) => row.blocks.length));
  if (chosen === null || chosen >= packed.length) chosen = packed.findIndex((row) => row.blocks.length === most);
  const grid = h("div", "layouts");
  grid.append(...data.layouts.map(panel));
  place.replaceChildren(h("p", "note", data.message), grid, ...(packed[chosen] ? [attention(packed[chosen])] : []));
};
watch("value", draw);
draw();
