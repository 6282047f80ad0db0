// Shared by the widgets. Text only ever reaches the page through textContent.
const h = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};
const value = () => {
  try { return JSON.parse(props.value || "null"); } catch (error) { return null; }
};
const root = () => element.querySelector(".widget");
