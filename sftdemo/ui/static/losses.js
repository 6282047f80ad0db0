let chosen = null;  // [the model that is looked at, the one it is compared with or null], as indices
let pinned = null;  // {row, index}: the token that was clicked
let moved = "";     // where the mouse has moved to; a page that scrolls under it brings it other tokens there

const TRAINED_AT = t("‘{token}’ at position {index}: trained");
const UNTRAINED_AT = t("‘{token}’ at position {index}: not trained, it is only looked at");
const nats = (value) => value.toFixed(2);
const percent = (share) => share >= 0.0995 ? `${Math.round(100 * share)} %` : share >= 0.00095 ? `${(100 * share).toFixed(1)} %` : t("under 0.1 %");

// Each model by itself, each against each, and last the difference that it opens with.
const views = ({ names, opens }) => {
  const all = names.map((name, index) => [[index, null], name]);
  for (let less = 0; less < names.length; less += 1) {
    for (let of = less + 1; of < names.length; of += 1) if (!(opens.includes(less) && opens.includes(of))) all.push([[of, less]]);
  }
  return [...all, [opens]].map(([view, name]) => [name ?? `${names[view[0]]} − ${names[view[1]]}`, view]);
};

const lossOf = (row, index) => {
  if (!index) return null;  // nothing predicts the first token
  const [of, less] = chosen;
  return row.losses[of][index - 1] - (less === null ? 0 : row.losses[less][index - 1]);
};

// One scale for all: 0 to TOP nats in blue; a difference in blue where the loss fell and in orange where it rose.
const paint = (node, loss) => {
  const share = Math.min(1, Math.abs(loss) / (chosen[1] === null ? TOP : TOP / 2));
  ground(node, share, chosen[1] !== null && loss > 0 ? "var(--worse)" : "var(--loss)");
};

const facts = (data, row, index) => {
  const [text, , , bits] = row.tokens[index];
  const box = [h("p", "shift", t(bits & TRAINED ? TRAINED_AT : UNTRAINED_AT,
    { token: text || t("(part of the character before)"), index }))];
  if (!index) return [...box, h("p", "note", t("Nothing stands before the first token, so nothing predicts it."))];
  const table = h("table");
  const head = h("tr");
  head.append(h("td"), ...[t("loss, nats"), t("probability"), t("rank"), t("likeliest there")].map((name) => h("th", "", name)));
  table.append(head);
  data.names.forEach((name, model) => {
    const loss = row.losses[model][index - 1], line = h("tr");
    const title = h("th", "", name);
    title.scope = "row";
    line.append(title, h("td", "", nats(loss)), h("td", "", percent(Math.exp(-loss))), h("td", "", row.ranks[model][index - 1].toLocaleString("en")));
    const tops = h("td", "tops");
    for (const [likely, share] of row.likeliest[model][index - 1]) {
      const chip = h("span", "likely", likely);
      chip.append(h("small", "", percent(share)));
      tops.append(chip);
    }
    line.append(tops);
    table.append(line);
  });
  const scroll = h("div", "scroll");
  scroll.append(table);
  return [...box, scroll];
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  if (!data.rows.length) {
    pinned = null;
    place.replaceChildren(h("p", data.failed ? "flag" : "note", data.message));
    return;
  }
  const all = views(data);
  if (!chosen || chosen.some((index) => index !== null && index >= data.names.length)) chosen = all.at(-1)[1];
  const bar = h("div", "views");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", t("which loss the colours show"));
  for (const [name, view] of all) {
    const button = h("button", "", name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(view.join() === chosen.join()));
    button.onclick = () => { chosen = view; draw(); root().querySelector('[aria-pressed="true"]').focus(); };
    bar.append(button);
  }
  const inspector = h("div", "inspector");
  const hint = h("p", "note", t("Point at a token, tap it, or walk with the arrow keys."));
  const show = (row, index) => {
    for (const old of place.querySelectorAll(".chosen")) old.classList.remove("chosen");
    row.nodes[index].classList.add("chosen");
    for (const old of place.querySelectorAll('.token[tabindex="0"]')) old.tabIndex = -1;
    row.nodes[index].tabIndex = 0;  // one Tab stop for all rows
    inspector.replaceChildren(...facts(data, row.row, index));
  };
  const cards = data.rows.map((row) => {
    const node = h("section", "row"), head = h("header"), body = h("div", "tokens");
    head.append(h("span", "number", t("row {row}", { row: row.row })), h("span", "", row.source === "held out" ? t("held out: never trained on") : t("training row")));
    const nodes = tokenNodes(row.tokens);
    const tokens = nodes.filter((token) => token.dataset.index);
    const card = { row, nodes: tokens };
    tokens.forEach((token, index) => {
      const loss = lossOf(row, index), bits = row.tokens[index][3];
      token.className = "token " + (bits & TRAINED ? "is-trained" : "untrained") + (isRest(row.tokens[index]) ? " rest" : "");
      if (loss !== null) paint(token, loss);
      token.setAttribute("role", "option");
      token.setAttribute("aria-selected", String(Boolean(bits & TRAINED)));
      token.tabIndex = -1;
      token.setAttribute("aria-label", [row.tokens[index][0], bits & TRAINED ? t("trained") : t("not trained"),
        loss === null ? t("first token") : t("{loss} nats", { loss: nats(loss) })].join(", "));
    });
    const at = (event) => {
      const found = event.target.closest?.(".token");
      return found && found.dataset.index ? Number(found.dataset.index) : null;
    };
    const look = (event, pin) => {
      const index = at(event);
      if (index === null) return;
      if (pin) pinned = { card, index };
      show(card, index);
    };
    body.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse" && whereIs(event) !== moved) look(event, false); });
    body.addEventListener("pointerout", () => { if (pinned) show(pinned.card, pinned.index); });
    body.addEventListener("focusin", (event) => look(event, true));
    body.addEventListener("click", (event) => look(event, true));
    body.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], index = at(event);
      const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (index === null || !(step || down)) return;
      const other = down && cards[cards.findIndex((each) => each.card === card) + down]?.card.nodes;
      const next = step ? tokens[index + step] : other?.[Math.min(index, other.length - 1)];
      if (!next) return;
      next.focus();
      event.preventDefault();
    });
    body.setAttribute("role", "listbox");
    body.setAttribute("aria-multiselectable", "true");
    body.setAttribute("aria-label", t("row {row}: those selected are trained. Arrow keys go from token to token, and from row to row.", { row: row.row }));
    body.append(...nodes);
    node.append(head, body);
    return { card, node };
  });
  const legend = h("p", "scale");
  const end = chosen[1] === null ? ["0", t("{loss} nats or more", { loss: TOP })]
    : [t("−{loss} nats: likelier", { loss: TOP / 2 }), t("+{loss}: less likely", { loss: TOP / 2 })];
  legend.append(h("span", "", end[0]), h("span", chosen[1] === null ? "ramp" : "ramp both"), h("span", "", end[1]),
    h("span", "key is-trained", t("trained")), h("span", "key untrained", t("not trained")));
  const rows = h("div", "rows");
  rows.append(...cards.map(({ node }) => node));
  const idea = chosen.join() === data.opens.join() ? [h("p", "idea", data.idea)] : [];
  const more = data.more ? [h("p", "note", data.more)] : [];
  place.replaceChildren(h("p", "note", data.message), bar, ...idea, legend, rows, ...more, inspector);
  const again = pinned && cards.find(({ card }) => card.row.row === pinned.card.row.row);
  pinned = again && pinned.index < again.card.nodes.length ? { card: again.card, index: pinned.index } : null;
  if (pinned) show(pinned.card, pinned.index);
  else {
    inspector.replaceChildren(hint);
    if (cards[0]?.card.nodes[0]) cards[0].card.nodes[0].tabIndex = 0;
  }
};
window.addEventListener("pointermove", (event) => { moved = whereIs(event); });
watch("value", draw);
draw();
