const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = data.questions.map(({ text, source }) =>
    foldable("question " + source.replace(" ", "-"), source === "training" ? t("{text} · trained on", { text }) : text));
  place.replaceChildren(...(parts.length ? [h("p", "note", t("Asked before and after the training:")), ...parts] : []));
};
watch("value", draw);
draw();
