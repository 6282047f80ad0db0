// Shared by the widgets. Text only ever reaches the page through textContent.
// The page's words in the language of the visit, which the server puts before this script, with values in their places.
const t = (text, values = {}) => (WORDS[text] ?? text).replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
const h = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};
// A sentence in a node, with what stands between backticks as code.
const withCode = (node, text) => {
  node.append(...text.split("`").map((part, index) => (index % 2 ? h("code", "", part) : part)));
  return node;
};
const value = () => {
  try { return JSON.parse(props.value || "null"); } catch (error) { return null; }
};
const root = () => element.querySelector(".widget");
const button = (className, text, act) => {
  const node = h("button", className, text);
  node.type = "button";
  node.onclick = act;
  return node;
};
const svg = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, text] of Object.entries(attributes)) node.setAttribute(name, text);
  return node;
};
// Losses against their number, all on one scale.
const sparkline = (curves, width, height, attributes) => {
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, ...attributes });
  const top = Math.max(...curves.flat(), 1e-6), longest = Math.max(...curves.map((curve) => curve.length));
  curves.forEach((curve, index) => {
    if (curve.length < 2) return;
    const points = curve.map((loss, at) => `${(2 + at / (longest - 1) * (width - 4)).toFixed(1)},${(height - 2 - loss / top * (height - 4)).toFixed(1)}`);
    picture.append(svg("polyline", { points: points.join(" "), class: `curve-${index % 4}`, fill: "none" }));
  });
  return picture;
};

// A text of which only the beginning is shown, with a button for the rest where there is more. It stays as it was left
// when the widget is drawn anew.
const unfolded = new Set();
const foldable = (className, text) => {
  const box = h("div", "foldable"), words = h("p", className, text), more = button("more-text", "", () => {
    if (!unfolded.delete(text)) unfolded.add(text);
    show();
  });
  const show = () => {
    const isOpen = unfolded.has(text);
    words.classList.toggle("clamped", !isOpen);
    more.textContent = isOpen ? t("show less") : t("show all");
    more.setAttribute("aria-expanded", String(isOpen));
  };
  more.hidden = true;
  new ResizeObserver(() => { more.hidden = !unfolded.has(text) && words.scrollHeight <= words.clientHeight + 1; }).observe(words);
  show();
  box.append(words, more);
  return box;
};

const whereIs = (event) => `${event.screenX} ${event.screenY}`;

// Why an answer ended, in words, with their class.
const STOPS = {
  EOS: [t("stopped by itself"), "stop good"],
  length: [t("cut at the length limit"), "stop bad"],
  stopped: [t("stopped by you"), "stop"],
  NaN: [t("ended by NaN: the model computes no number"), "stop bad"],
};

const TOP = 8;  // nats of a token's loss that have the most colour under which text can be read: a probability of 1 in 3,000
const ground = (node, share, colour = "var(--loss)") => {
  node.style.background = `color-mix(in srgb, ${colour} calc(${share.toFixed(2)} * var(--most)), transparent)`;
};

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
    if (index && !rest) nodes.push(h("wbr"));  // a line ends between two tokens, wherever it can
    nodes.push(node);
    for (let i = 0; i < token[4]; i += 1) nodes.push(h("br"));
  });
  return nodes;
};
