const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = data.questions.map((question) => {
    const chip = h("span", "question " + question.source.replace(" ", "-"), question.text);
    chip.title = question.source;
    return chip;
  });
  if (!parts.length) return place.replaceChildren();
  const training = data.questions[0].source === "training";
  place.replaceChildren(h("p", "note", training
    ? "No prompt is held out and none typed, so these training prompts are asked before and after:"
    : "Asked before and after, never trained on:"), ...parts);
};
watch("value", draw);
draw();
