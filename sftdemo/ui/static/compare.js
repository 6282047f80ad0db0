const SOURCES = {
  "held out": t("held out: never trained on"),
  typed: t("typed by you"),
  training: t("training example: the model has seen it"),
};

// Where the answers of several trained models part: the index in all of them, or -1 where they are one.
const partsAt = (texts) => {
  const [first, ...others] = texts.map((text) => [...text]);
  const longest = Math.max(first.length, ...others.map((other) => other.length));
  for (let index = 0; index < longest; index += 1) {
    if (others.some((other) => other[index] !== first[index])) return index;
  }
  return -1;
};

// The text with the word marked in which it parts from the others; an answer that is over there gets the mark alone.
const marked = (text, at) => {
  const letters = [...text];
  let begin = at, end = at;
  while (begin > 0 && /\S/.test(letters[begin - 1])) begin -= 1;
  while (end < letters.length && (end === at || /\S/.test(letters[end]))) end += 1;
  const node = h("p", "text");
  node.append(letters.slice(0, begin).join(""), h("mark", "", letters.slice(begin, end).join("") || "▪"), letters.slice(end).join(""));
  return node;
};

const answer = (name, index, { text, stop }, at) => {
  const node = h("div", "answer " + (index ? "after" : "before") + (text === null ? " open" : ""));
  node.append(h("h3", "", name));
  if (text === null) node.append(h("p", "text empty", "…"));
  else if (index && at >= 0) node.append(marked(text, at));
  else node.append(h("p", text ? "text" : "text empty", text || t("(nothing)")));
  if (stop) node.append(h("span", STOPS[stop][1], STOPS[stop][0]));
  return node;
};

// In what two runs differ, above their answers.
const settingsTable = (settings) => {
  const table = h("table"), head = h("tr"), scroll = h("div", "scroll");
  head.append(h("td"), h("th", "", "1"), h("th", "", "2"));
  table.append(head, ...settings.map(([name, ...values]) => {
    const line = h("tr"), title = h("th", "", name);
    title.scope = "row";
    line.append(title, ...values.map((text) => h("td", "", text)));
    return line;
  }));
  scroll.append(table);
  return scroll;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const rows = data.rows.map((row) => {
    const node = h("section", "pair");
    node.style.setProperty("--columns", row.answers.length);
    const prompt = h("div", "prompt");
    prompt.append(foldable("text", row.prompt));
    if (row.source) prompt.append(h("span", "source " + row.source.replace(" ", "-"), SOURCES[row.source]));
    const trained = row.answers.slice(1).map(({ text }) => text);
    const compared = trained.length > 1 && trained.every((text) => text !== null);
    const at = compared ? partsAt(trained) : -1;
    if (compared && at < 0) prompt.append(h("span", "same", t("the same answer in all columns after the first")));
    node.append(prompt, ...row.answers.map((each, index) => answer(data.columns[index], index, each, at)));
    return node;
  });
  place.classList.toggle("wide", data.columns.length > 3);
  const settings = data.settings.length ? [settingsTable(data.settings)] : [];
  const concluded = data.conclusion ? [withCode(h("p", "conclusion"), data.conclusion)] : [];
  place.replaceChildren(h("p", "note", data.message), ...settings, ...rows, ...concluded);
};
watch("value", draw);
draw();
