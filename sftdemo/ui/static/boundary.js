const visibleRow = (name, pieces, cuts, at) => {
  const row = h("div", "lane");
  row.append(h("span", "name", name));
  for (const [text, id, begin, end, trained] of pieces) {
    const crosses = begin < at && at < end;
    const node = h("span", "token " + (crosses ? "merged" : trained ? "trained" : "prompt"), text || "·");
    node.style.gridColumn = `${cuts.indexOf(begin) + 2} / ${Math.max(cuts.indexOf(end), cuts.indexOf(begin) + 1) + 2}`;
    node.title = crosses ? t("id {id}: it reaches across the end of the prompt", { id }) : t("id {id}", { id });
    row.append(node);
  }
  return row;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = [];
  if (data.lanes.length) {
    const cuts = [...new Set(data.lanes.flatMap(([, pieces]) => pieces.flatMap(([, , begin, end]) => [begin, end])))]
      .sort((a, b) => a - b);
    const grid = h("div", "lanes");
    grid.style.setProperty("--cuts", Math.max(1, cuts.length - 1));
    const edge = h("div", "lane edge");
    const mark = h("span", "mark", t("prompt ends here ▾"));
    mark.style.gridColumn = `2 / ${cuts.indexOf(data.at) + 2}`;
    if (cuts.indexOf(data.at) > 0) edge.append(mark);
    grid.append(edge);
    for (const [name, pieces] of data.lanes) grid.append(visibleRow(name, pieces, cuts, data.at));
    parts.push(grid);
  }
  parts.push(h("p", data.merged ? "sentence bad" : "sentence", data.message));
  if (data.remedy) {
    const { template, merging, remaining } = data.remedy;
    const button = h("button", "mend", t("End the template in a newline"));
    button.type = "button";
    button.onclick = () => trigger("mend", { template });
    const line = h("p", "remedy");
    line.append(button, h("span", "", t("{merging} of the rows looked at merge; {remaining} with a newline at the template's end.", { merging, remaining })));
    parts.push(line);
  }
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
