let data = null;      // what is drawn
let cards = [];       // {key, node, row}: a row that did not change keeps its node
let editing = false;  // whether a click changes the mask
let edits = 0;        // how many there are to undo
let paint = null;     // {card, to, chosen}: tokens being painted
let pinned = null;    // {card, index}: the token that was clicked; the inspector comes back to it
let inspected = null; // the card whose token the inspector shows
let moved = "";       // where the mouse has moved to; a page that scrolls under it brings it other tokens there

const shown = (token, tokens, index) => {
  if (!isRest(token)) return token[0] || t("(nothing)");
  let head = index;
  while (head > 0 && isRest(tokens[head])) head -= 1;
  return t("part {part} of {token}", { part: index - head + 1, token: tokens[head][0] });
};

// What the prompt-loss weight makes of a token that is not trained; nothing predicts the first.
const weightOf = (row, index) => index && row.counts ? data.weight : 0;
const COUNTS = t("Position {index} predicts the next token, {name}: its loss counts.");
const counting = (row, index) => {
  const weight = weightOf(row, index);
  if (!weight) return t("Position {index} predicts the next token, {name}: its loss does not count.");
  return weight === 1 ? COUNTS : t("Position {index} predicts the next token, {name}: its loss counts {weight} times.");
};
const untrained = (row, index) => {
  const weight = weightOf(row, index), id = row.tokens[index][2];
  if (!weight) return t("−100: not trained");
  return weight === 1 ? t("{id}, the token itself: trained, by the prompt's weight", { id })
    : t("{id}, the token itself: counts {weight} times", { id, weight });
};

// Everything there is to say of a token, as [name, text] pairs; read out to those who do not see the page.
const explain = ({ row }, index) => {
  const { tokens } = row;
  const token = tokens[index];
  const [, kind, id, bits] = token;
  const kept = tokens.filter((each) => !(each[3] & CUT)).length;
  const trained = bits & TRAINED;
  const facts = [
    ["token", shown(token, tokens, index)], ["id", String(id)], ["position", t("{index} of {count}", { index, count: kept })],
    ["role", SAYS[KINDS[kind]]], ["label", trained ? t("{id}, the token itself: trained", { id }) : untrained(row, index)],
  ];
  if (bits & CUT) {
    facts[2][1] = t("{index}, cut off by max length", { index });
    facts[4][1] = t("none: the trainer never sees it");
    return { facts, shift: t("Max length cut this token off.") };
  }
  if (index + 1 >= kept) return { facts, shift: t("Nothing follows it, so it predicts nothing.") };
  const next = tokens[index + 1];
  const name = `‘${shown(next, tokens, index + 1)}’`;
  const words = next[3] & TRAINED ? COUNTS : counting(row, index + 1);
  let shift = t(words, { index, name, weight: weightOf(row, index + 1) });
  if (!trained && next[3] & TRAINED && data.weight < 1) shift += ` ${t("Here a trained part begins: the last token before it predicts its first.")}`;
  return { facts, shift };
};

const showHint = () => {
  inspected = pinned = null;
  root().querySelector(".inspector").replaceChildren(h("p", "note",
    t("Point at a token, tap it, or walk with the arrow keys: its id, label and what it predicts stand here.")));
};

const inspect = (card, index, focus) => {
  for (const old of root().querySelectorAll(".chosen, .predicted")) old.classList.remove("chosen", "predicted");
  const node = card.at(index);
  if (!node) return;
  inspected = card;
  const { facts, shift } = explain(card, index);
  const next = card.row.tokens[index + 1];
  node.classList.add("chosen");
  if (next && !(next[3] & CUT)) card.at(index + 1)?.classList.add("predicted");
  node.setAttribute("aria-label", facts.map(([name, text]) => `${t(name)} ${text}`).join(", ") + ". " + shift);
  const list = h("dl");
  for (const [name, text] of facts) {
    const pair = h("div", `fact ${name}-fact`);
    pair.append(h("dt", "", t(name)), h("dd", "", text));
    list.append(pair);
  }
  root().querySelector(".inspector").replaceChildren(list, h("p", "shift", shift));
  if (focus) {
    for (const old of root().querySelectorAll('.token[tabindex="0"]')) old.tabIndex = -1;
    node.tabIndex = 0;
    node.focus({ preventScroll: true });
    node.scrollIntoView({ block: "nearest" });
  }
};

const keyOf = (row) => JSON.stringify(row) + (row.partly ? data.weight : "");

const makeCard = (row) => {
  const node = h("section", "row" + (row.hand ? " by-hand" : "") + (row.part ? " continued" : "") + (row.counts ? " counts" : ""));
  const head = h("header");
  const name = row.parts > 1
    ? t("row {row}, part {part} of {parts}", { row: row.row, part: row.part + 1, parts: row.parts }) : t("row {row}", { row: row.row });
  head.append(h("span", "number", name), h("span", "count", t("{count} not trained", { count: row.prompt })));
  if (row.partly) {
    const values = { count: row.partly, weight: data.weight };
    head.append(h("span", "count", row.partly === 1 ? t("1 counts {weight} times", values) : t("{count} count {weight} times", values)));
  }
  head.append(h("span", "count trained-count", t("{count} trained", { count: row.trained })));
  if (row.hand) {
    const usual = h("button", "usual", t("back to the usual mask"));
    usual.type = "button";
    usual.onclick = () => { edited(1); trigger("reset", { row: row.row }); };
    head.append(h("span", "hand", t("✎ by hand")), usual);
  }
  const body = h("div", "tokens");
  body.setAttribute("role", "listbox");
  body.setAttribute("aria-multiselectable", "true");
  body.setAttribute("aria-label", t("{name}: {untrained} tokens not trained, {trained} trained. Arrow keys go from token to token.",
    { name, untrained: row.prompt, trained: row.trained }));
  const nodes = tokenNodes(row.tokens);
  for (const token of nodes) if (token.dataset.index) {
    token.setAttribute("role", "option");
    token.setAttribute("aria-selected", String(token.matches(".trained:not(.cut)")));
  }
  const tokens = nodes.filter((token) => token.dataset.index);
  if (tokens[0]) tokens[0].tabIndex = -1;
  body.append(...nodes);
  if (row.cut) body.append(h("span", "cut-note", row.more ? t("✂ and {count} more", { count: row.more }) : t("✂ {count} cut off by max length", { count: row.cut })));
  node.append(head, body);
  node.append(...flagNodes(row.flags));
  const card = { key: keyOf(row), node, row, at: (index) => tokens[index] };
  node.card = card;
  return card;
};

const cardOf = (target) => target.closest?.(".row")?.card;
const indexOf = (target) => {
  const node = target.closest?.(".token");
  return node && node.dataset.index !== undefined ? Number(node.dataset.index) : null;
};

const setTrained = (card, index, to) => {
  const token = card.row.tokens[index];
  if (!settable(token, index) || Boolean(token[3] & TRAINED) === to) return;
  token[3] ^= TRAINED;
  const node = card.at(index);
  node.className = lookOf(token) + " chosen" + (isRest(token) ? " rest" : "");
  node.setAttribute("aria-selected", String(to));
};

const settable = (token, index) => index > 0 && !(token[3] & CUT);  // the first and those cut off are never trained

const toggle = (card, among, to) => {
  const indices = among.filter((index) => settable(card.row.tokens[index], index));
  if (!indices.length) return;
  for (const index of indices) setTrained(card, index, to);
  card.key = "";  // what comes back is drawn anew
  edited(1);
  trigger("toggle", { row: card.row.row, part: card.row.part, tokens: indices, trained: to });
};

// How many edits there are to take back.
const edited = (more) => {
  edits = Math.max(0, edits + more);
  const button = root().querySelector(".undo");
  button.hidden = !editing && !edits;
  button.disabled = !edits;
};

const undo = () => {
  if (!edits) return;
  for (const card of cards) card.key = "";  // what comes back is drawn anew
  edited(-1);
  trigger("undo", {});
};

const onUndoKey = (event) => {
  if (!edits || event.shiftKey || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  undo();
};

const onKey = (event) => {
  const card = cardOf(event.target), index = indexOf(event.target);
  if (!card || index === null) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const last = card.row.tokens.length - 1;
  if (step) inspect(card, Math.min(last, Math.max(0, index + step)), true);
  else if (event.key === "Home") inspect(card, 0, true);
  else if (event.key === "End") inspect(card, last, true);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const other = cards[cards.indexOf(card) + (event.key === "ArrowDown" ? 1 : -1)];
    if (other) inspect(other, Math.min(index, other.row.tokens.length - 1), true);
  } else if (event.key === " " || event.key === "Enter") {
    if (editing) {
      toggle(card, [index], !(card.row.tokens[index][3] & TRAINED));
      inspect(card, index, false);
    }
  } else return;
  event.preventDefault();
};

const makeFrame = () => {
  const frame = h("div", "frame");
  const tools = h("div", "tools");
  const edit = h("button", "edit", t("✎ Edit the mask"));
  edit.type = "button";
  edit.setAttribute("aria-pressed", "false");
  edit.onclick = () => {
    editing = !editing;
    edit.setAttribute("aria-pressed", String(editing));
    rows.classList.toggle("editing", editing);
    edited(0);
    hint.textContent = !editing ? "" : data.weight === 1 ? t("At weight 1 all tokens are trained, whatever the mask.")
      : t("Click or drag over tokens to train or ignore them.");
  };
  const back = button("undo", t("↶ Undo"), undo);
  back.title = "Ctrl+Z";
  back.hidden = true;
  const hint = h("span", "hint");
  const pager = h("nav", "pager");
  tools.append(edit, back, hint, pager);
  const above = h("div", "above");
  const rows = h("div", "rows");
  const inspector = h("div", "inspector");
  inspector.setAttribute("aria-live", "off");  // the focused token's label says the same

  rows.addEventListener("pointerover", (event) => {
    const card = cardOf(event.target), index = indexOf(event.target);
    if (!card || index === null) return;
    if (paint && paint.card === card) {
      if (!paint.chosen.includes(index)) paint.chosen.push(index);
      setTrained(card, index, paint.to);
    }
    if (event.pointerType === "mouse" && whereIs(event) !== moved) inspect(card, index, false);
  });
  rows.addEventListener("pointerout", () => { if (pinned && cards.includes(pinned.card)) inspect(pinned.card, pinned.index, false); });
  rows.addEventListener("pointerdown", (event) => {
    const card = cardOf(event.target), index = indexOf(event.target);
    if (!card || index === null) return;
    pinned = { card, index };
    inspect(card, index, true);
    trigger("pick", { row: card.row.row });
    if (!editing) return;
    event.preventDefault();
    if (event.target.hasPointerCapture?.(event.pointerId)) event.target.releasePointerCapture(event.pointerId);  // a finger's
    paint = { card, to: !(card.row.tokens[index][3] & TRAINED), chosen: [index] };
    setTrained(card, index, paint.to);
  });
  rows.addEventListener("focusin", (event) => {
    const card = cardOf(event.target), index = indexOf(event.target);
    if (!card || index === null) return;
    pinned = { card, index };
    inspect(card, index, false);
  });
  rows.addEventListener("keydown", onKey);
  frame.addEventListener("keydown", onUndoKey);
  frame.append(h("div", "legend"), tools, above, rows, inspector);
  root().replaceChildren(frame);
  cards = [];
  showHint();
};
window.addEventListener("pointermove", (event) => { moved = whereIs(event); });
for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => {
  if (paint) toggle(paint.card, paint.chosen, paint.to);
  paint = null;
});

const drawPager = (pager) => {
  pager.replaceChildren();
  if (data.pages < 2) return;
  const step = (text, label, page) => {
    const button = h("button", "", text);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.disabled = page < 0 || page >= data.pages;
    button.onclick = () => trigger("turn", { page });
    return button;
  };
  const end = Math.min(data.total, data.first + new Set(data.rows.map((each) => each.row)).size);
  pager.append(step("«", t("first page"), data.page ? 0 : -1), step("‹", t("page before"), data.page - 1),
    h("span", "", t("{first}–{last} of {total}",
      { first: (data.first + 1).toLocaleString("en"), last: end.toLocaleString("en"), total: data.total.toLocaleString("en") })),
    step("›", t("next page"), data.page + 1), step("»", t("last page"), data.page + 1 < data.pages ? data.pages - 1 : -1));
};

// A refused row has no tokens: its line is chosen in the text box or, where that does not have it, shown here.
const goToRow = (row, line) => {
  const box = document.querySelector("#examples textarea");
  if (line === null || !box || !box.offsetParent) return trigger("read", { row, line });
  const lines = box.value.split("\n");
  const begin = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  box.focus({ preventScroll: true });
  box.scrollIntoView({ block: "nearest" });
  box.setSelectionRange(begin, begin + (lines[line - 1] || "").length);
  scrollToLine(box, lines.slice(0, line - 1).join("\n"));
};

// Lines wrap, so what stands above is measured in a copy of the box.
const scrollToLine = (box, above) => {
  const copy = box.cloneNode(), look = getComputedStyle(box);
  Object.assign(copy.style, { position: "absolute", visibility: "hidden", width: `${box.clientWidth}px` });
  copy.style.setProperty("height", "0", "important");
  copy.style.setProperty("min-height", "0", "important");
  copy.removeAttribute("id");
  box.after(copy);
  copy.value = above;
  box.scrollTop = Math.max(0, copy.scrollHeight - 3 * (parseFloat(look.lineHeight) || 20) - parseFloat(look.paddingBottom));
  copy.remove();
};

const drawProblem = ({ words, dropped, rows, count }) => {
  const node = h("div", dropped ? "dropped" : "problem");
  const line = h("p", "", dropped ? words : "✗ " + words);
  for (const [row, number] of rows) {
    const chip = h("button", "chip-row", count > 1 ? t("row {row}", { row }) : t("go to row"));
    chip.type = "button";
    chip.setAttribute("aria-label", t("go to row {row}", { row }));
    chip.onclick = () => goToRow(row, number);
    line.append(" ", chip);
  }
  if (count > rows.length) line.append(" ", h("span", "more", t("and {count} more", { count: (count - rows.length).toLocaleString("en") })));
  node.append(line);
  return node;
};

// What the colours stand for, at this prompt-loss weight.
const legend = () => {
  const prompt = { 0: t("seen, not trained (label −100)"), 1: t("trained as well, by the prompt's weight") }[data.weight];
  const keys = [["prompt", t("prompt"), prompt || t("counts {weight} times", { weight: data.weight })], ["trained", t("completion"), t("trained")],
    ["trained eos", "EOS", t("trained: when to stop")], ["special", t("special"), t("put in by the chat template")]];
  return keys.map(([look, name, words]) => {
    const key = h("span");
    key.append(h("span", `chip ${look}`, name), ` ${words}`);
    return key;
  });
};

// Whether this browser will show another view than the one that the page opens with: a link's, or what it has kept.
const showsAnother = (key) => {
  const asked = [...new URLSearchParams(window.location.search).keys()];
  if (asked.some((name) => !["lang", "present", "__theme"].includes(name))) return true;
  try { return localStorage.getItem(key) !== null; } catch (error) { return false; }  // where a browser keeps nothing
};

const draw = () => {
  data = value();
  if (!data || !root()) return;
  if (data.ahead && !showsAnother(data.ahead.unless_kept)) data = data.ahead.drawn;
  if (!root().querySelector(".frame")) makeFrame();
  const frame = root().querySelector(".frame");
  frame.classList.toggle("empty", !data.rows.length);
  frame.querySelector(".edit").disabled = data.waiting;
  frame.classList.toggle("weighted", data.weight > 0);
  frame.style.setProperty("--weight", `${100 * data.weight}%`);
  frame.querySelector(".legend").replaceChildren(...legend());
  const above = [];
  above.push(...data.problems.map(drawProblem));
  if (data.row_text) {
    const [row, text] = data.row_text;
    above.push(h("p", "note", t("row {row} says:", { row })), h("pre", "row-text", text));
  }
  for (const note of data.notes) above.push(h("p", "note", note));
  if (data.message) above.push(h("p", data.waiting ? "message waiting" : "message", data.message));
  frame.querySelector(".above").replaceChildren(...above);
  drawPager(frame.querySelector(".pager"));
  const known = new Map(cards.map((card) => [card.key, card]));
  const before = cards;
  cards = data.rows.map((row) => {
    const key = keyOf(row), same = known.get(key);
    known.delete(key);
    return same || makeCard(row);
  });
  const rows = frame.querySelector(".rows");
  const focused = rows.contains(document.activeElement) && indexOf(document.activeElement) !== null;
  if (cards.length !== before.length || cards.some((card, index) => card !== before[index])) {
    rows.replaceChildren(...cards.map((card) => card.node));
  }
  // One Tab stop for all rows; the arrow keys carry it along.
  if (!rows.querySelector('.token[tabindex="0"]') && cards[0]?.at(0)) cards[0].at(0).tabIndex = 0;
  if (pinned && !cards.includes(pinned.card)) {
    const { row, part } = pinned.card.row;
    const again = cards.find((card) => card.row.row === row && card.row.part === part);
    pinned = again ? { card: again, index: Math.min(pinned.index, again.row.tokens.length - 1) } : null;
    if (again && again.at(pinned.index)) inspect(again, pinned.index, false);
  }
  if (focused && pinned) inspect(pinned.card, pinned.index, true);  // nodes that were moved or made anew lost the focus
  if (inspected && !cards.includes(inspected)) showHint();
  else if (pinned) inspect(pinned.card, pinned.index, false);  // the weight may have changed
  if (data.focus !== null) {
    const card = cards.find((each) => each.row.row === data.focus);
    if (card) {
      card.node.scrollIntoView({ block: "center" });
      card.node.classList.remove("flash");
      void card.node.offsetWidth;  // so that the animation runs again
      card.node.classList.add("flash");
      pinned = { card, index: 0 };
      inspect(card, 0, true);
    }
  }
};
watch("value", draw);
draw();
