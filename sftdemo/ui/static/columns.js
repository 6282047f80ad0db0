const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = [h("p", "words", data.message)];
  for (const { row, prompt, answer } of data.rows) {
    const line = h("div", "pair");
    line.append(h("span", "number", t("row {row}", { row })), h("span", "prompt", prompt), h("span", "arrow", "→"),
      h("span", "answer", answer));
    parts.push(line);
  }
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
