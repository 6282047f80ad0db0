// What is wrong with a setting stands at its input, and above the buttons as long as there is anything wrong.
const tell = ({ id, words }, kind) => {
  const field = document.getElementById(id);
  if (!field) return;
  const node = h("p", `at-field ${kind}`, words);
  if (kind === "error") node.setAttribute("role", "alert");
  field.append(node);
  for (const input of field.querySelectorAll("input, textarea")) input.setAttribute("aria-invalid", kind === "error");
};

// A closed accordion is opened by its own button.
const goTo = (id) => {
  const field = document.getElementById(id);
  const place = field && field.offsetParent ? field : null;
  if (!place) {
    for (const door of document.querySelectorAll(":is(#mask-settings, #training-settings) button.label-wrap:not(.open)")) door.click();
  }
  setTimeout(() => {
    const input = document.getElementById(id)?.querySelector("input, textarea");
    input?.scrollIntoView({ block: "center" });
    input?.focus({ preventScroll: true });
  }, place ? 0 : 400);
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  for (const node of document.querySelectorAll(".at-field")) node.remove();
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const each of data.errors) tell(each, "error");
  for (const each of data.notes) tell(each, "note");
  place.replaceChildren(...data.errors.map((each) => {
    const line = h("p", "flag", `⚠ ${each.words} `);
    const go = h("button", "", t("to {field}", { field: each.title }));
    go.type = "button";
    go.onclick = () => goTo(each.id);
    line.append(go);
    return line;
  }));
};
watch("value", draw);
draw();
// The inputs in an accordion are made anew when it is opened.
document.addEventListener("click", (event) => {
  if (event.target.closest?.("button.label-wrap")) setTimeout(draw, 250);
});
