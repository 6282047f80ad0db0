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

// A token is [text, kind, id, bits, breaks]; its kind is a place in SAYS, which the server puts before this script.
const KINDS = Object.keys(SAYS);
const OWN_LOOK = new Set(["special", "template", "eos"]);
const TRAINED = 1, CUT = 2;

const lookOf = ([, kind, , bits]) => {
  const name = KINDS[kind];
  const cut = bits & CUT ? " cut" : "";
  if (bits & TRAINED) return (name === "eos" ? "token eos trained" : "token completion trained") + cut;
  return "token " + (OWN_LOOK.has(name) ? name : "prompt") + cut;
};
const isRest = ([text, kind]) => !text && KINDS[kind] !== "special" && KINDS[kind] !== "eos";

// What the checks say of a row, as [severity, words].
const flagNodes = (flags) => flags.map(([severity, words]) =>
  h("p", `flag ${severity}`, `${severity === "note" ? "·" : "⚠"} ${words}`));

// The tokens of a row as nodes; whitespace signs are set apart, so that they can be drawn pale.
const tokenNodes = (tokens) => {
  const nodes = [];
  tokens.forEach((token, index) => {
    const rest = isRest(token);
    const node = h("span", lookOf(token) + (rest ? " rest" : "") +
      (index + 1 < tokens.length && isRest(tokens[index + 1]) ? " goes-on" : ""));
    const text = token[0];
    if (/[␣↵⇥]/.test(text)) {
      for (const part of text.split(/([␣↵⇥]+)/)) if (part) node.append(/[␣↵⇥]/.test(part) ? h("i", "space", part) : part);
    } else node.textContent = text;
    node.dataset.index = index;
    nodes.push(node);
    for (let i = 0; i < token[4]; i += 1) nodes.push(h("br"));
  });
  return nodes;
};
