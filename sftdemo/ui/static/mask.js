const KINDS = { s: "special", t: "template", p: "prompt", c: "completion", e: "eos" };
const SAYS = {
  special: "special token, not trained",
  template: "template, not trained",
  prompt: "prompt, not trained",
  completion: "completion, trained",
  eos: "end of sequence, trained: the model learns to stop here",
};

const token = ([text, kind, id, trained, breaks]) => {
  const name = KINDS[kind];
  const node = h("span", "token " + name + (trained ? " trained" : "") + (text ? "" : " rest"));
  for (const part of text.split(/([␣↵⇥]+)/)) if (part) node.append(/[␣↵⇥]/.test(part) ? h("i", "space", part) : part);
  const says = trained || (kind !== "c" && kind !== "e") ? SAYS[name] : "completion, not trained: nothing predicts it";
  node.title = `${text || "(rest of the character before)"} · id ${id} · label ${trained ? id : "-100"} · ${says}`;
  return [node, ...Array.from({ length: breaks }, () => h("br"))];
};

const card = (row) => {
  const node = h("section", "row");
  const head = h("header");
  head.append(h("span", "number", `row ${row.row}`), h("span", "count", `${row.prompt} prompt`),
    h("span", "count trained-count", `${row.trained} trained`));
  const body = h("div", "tokens");
  body.append(...row.tokens.flatMap(token));
  if (row.cut) body.append(h("span", "cut", `✂ ${row.cut} more tokens cut off by max length`));
  node.append(head, body);
  for (const flag of row.flags) node.append(h("p", "flag", "⚠ " + flag));
  return node;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = [];
  if (data.summary) parts.push(h("p", "summary", data.summary));
  for (const problem of data.problems) parts.push(h("p", "problem", "✗ " + problem));
  for (const note of data.notes) parts.push(h("p", "note", note));
  if (data.message) parts.push(h("p", data.waiting ? "message waiting" : "message", data.message));
  const rows = h("div", "rows");
  rows.append(...data.rows.map(card));
  parts.push(rows);
  if (data.more) parts.push(h("p", "note", `and ${data.more} more rows, not drawn here but trained as well`));
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
