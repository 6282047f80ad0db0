// What Gradio's own parts lack for the keyboard and for a screen reader. They come and go, so this looks at each change.
const put = (node, name, text) => { if (node.getAttribute(name) !== text) node.setAttribute(name, text); };

// The names that Gradio gives to parts of an input, in its own English.
const OWN_NAMES = [[/^number input for (.*)$/, t("{label}: number")], [/^range slider for (.*)$/, t("{label}: slider")],
  [/^Reset to default value$/, t("back to the default")], [/^More tabs$/, t("more tabs")], [/^Code input container$/, t("code")],
  [/^Gradio footer navigation$/, t("below the page")]];
const rename = (node) => {
  for (const [known, words] of OWN_NAMES) {
    const found = known.exec(node.getAttribute("aria-label"));
    if (found) put(node, "aria-label", words.replace("{label}", found[1] ?? ""));
  }
};

const mend = () => {
  if (LANG !== "en") document.querySelectorAll("[aria-label]").forEach(rename);
  for (const door of document.querySelectorAll("button.label-wrap")) put(door, "aria-expanded", String(door.classList.contains("open")));
  // Each choice has a name of its own, some of them twice on the page: arrow keys do nothing, and dots go out elsewhere.
  document.querySelectorAll("fieldset").forEach((group, index) => {
    for (const choice of group.querySelectorAll("input[type=radio]")) put(choice, "name", `choice-of-${group.id || index}`);
  });
};

// A menu that is left by Tab stays open otherwise, over what comes next.
const leaveMenu = (event) => {
  const menu = event.target;
  if (event.key !== "Tab" || menu.getAttribute("role") !== "combobox") return;
  setTimeout(() => menu.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true })));  // Tab itself opens it anew
};

let isDue = false;
new MutationObserver(() => {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; mend(); });
}).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["class", "name"] });
document.addEventListener("keydown", leaveMenu, true);
mend();
