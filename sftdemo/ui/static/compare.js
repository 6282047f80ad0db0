const STOPS = {
  EOS: ["stopped by itself", "stop good"],
  length: ["cut at the length limit", "stop bad"],
  stopped: ["stopped by you", "stop"],
};
const SOURCES = {
  "held out": "held out: never trained on",
  typed: "typed by you",
  training: "training example: the model has seen it",
};

const answer = (name, text, stop) => {
  const node = h("div", "answer " + name + (text === null ? " open" : ""));
  node.append(h("h4", "", name));
  node.append(text === null ? h("p", "text empty", "…") : h("p", "text", text || "(nothing)"));
  if (stop) node.append(h("span", STOPS[stop][1], STOPS[stop][0]));
  return node;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const rows = data.rows.map((row) => {
    const node = h("section", "pair");
    const prompt = h("div", "prompt");
    prompt.append(h("p", "text", row.prompt), h("span", "source " + row.source.replace(" ", "-"), SOURCES[row.source]));
    node.append(prompt, answer("before", row.before, row.before_stop), answer("after", row.after, row.after_stop));
    return node;
  });
  place.replaceChildren(h("p", "note", data.message), ...rows);
};
watch("value", draw);
draw();
