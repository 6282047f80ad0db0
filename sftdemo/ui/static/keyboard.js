// What Gradio's own parts lack for the keyboard and for a screen reader. They come and go, so this looks at each change.
const put = (node, name, text) => { if (node.getAttribute(name) !== text) node.setAttribute(name, text); };

const mend = () => {
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
