const page = document.documentElement, CURVE_WIDTH = 150, CURVE_HEIGHT = 34;
const states = new Map();  // what the learner did at each step: it is theirs, and stays in this window
let data = null;
let drawn = "";            // the step that is drawn
let folded = false;

const key = () => `${data.name} ${data.index}`;
const state = () => {
  if (!states.has(key())) states.set(key(), { picks: new Set(), looked: false, choice: null, text: "", read: false, mend: null });
  return states.get(key());
};

const paragraphs = (text) => text.trim().split(/\n\s*\n/).map((each) => h("p", "", each.replace(/\s+/g, " ").trim()));
const address = (step) => {
  const from = new URL(window.location.href), to = new URL(from);
  const kept = new URLSearchParams(step === null ? {} : { lesson: data.name, step: String(step + 1) });
  for (const each of ["__theme", "present", "lang"]) if (from.searchParams.has(each)) kept.set(each, from.searchParams.get(each));
  to.search = kept;
  return to.href;
};

const go = (step) => {
  if (step < 0 || step >= data.count) return;
  history.replaceState(history.state, "", address(step));
  trigger("go", { step });
};
const close = () => { window.location.href = address(null); };

// What the step asks for, as [is there, is done].
const tasks = () => {
  const { looked, choice, read } = state();
  return [
    [data.guess !== null, looked], [data.ask !== null, choice === data.ask?.right], [data.write !== null, read],
    [data.moves !== null, data.done.moves], [data.finding !== null, data.done.finding], [data.trains, data.done.trains],
  ].filter(([there]) => there).map(([, done]) => Boolean(done));
};

const point = () => {
  for (const old of document.querySelectorAll(".pointed")) old.classList.remove("pointed");
  const place = data.point && document.getElementById(data.point);
  if (!place) return;
  place.classList.add("pointed");
  place.style.scrollMarginTop = `${(folded ? 60 : root().offsetHeight) + 12}px`;
  if (data.open) {
    const door = document.getElementById(data.open[0])?.querySelector("button.label-wrap");
    if (door && !door.classList.contains("open")) door.click();
  }
  place.scrollIntoView({ block: place.offsetHeight > window.innerHeight / 2 ? "start" : "center" });
};

const verdict = () => {
  const { picks } = state();
  const graded = data.tokens.map((token, index) => (token[3] & TRAINED ? index : -1)).filter((index) => index >= 0);
  const right = graded.filter((index) => picks.has(index)).length, wrong = picks.size - right;
  if (right === graded.length && !wrong) return t("All {right} of them, and no other.", { right });
  const all = graded.length;
  if (!wrong) return t("You found {right} of the {all} that are graded.", { right, all });
  if (wrong === 1) return t("You found {right} of the {all} that are graded, and chose 1 that is not.", { right, all });
  return t("You found {right} of the {all} that are graded, and chose {wrong} that are not.", { right, all, wrong });
};

const guessTask = () => {
  const own = state(), place = h("div", "guess");
  if (!data.tokens) {
    place.append(h("p", "note", t("The tokens come as soon as the model is ready…")));
    return place;
  }
  const list = h("div", "tokens");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-multiselectable", "true");
  list.setAttribute("aria-label", t("the tokens of row {row}; arrow keys go from token to token, the space bar chooses", { row: data.guess }));
  const nodes = tokenNodes(data.tokens), tokens = nodes.filter((node) => node.dataset.index);
  const look = button("main", t("Look"), () => { own.looked = true; drawTasks(); });
  const show = (node, index) => {
    if (!own.looked) node.className = "token prompt";
    node.classList.toggle("mine", own.picks.has(index));
    node.setAttribute("aria-selected", String(own.picks.has(index)));
  };
  tokens.forEach((node, index) => {
    node.setAttribute("role", "option");
    node.tabIndex = index ? -1 : 0;
    node.onclick = () => {
      if (own.looked) return;
      if (!own.picks.delete(index)) own.picks.add(index);
      show(node, index);
    };
    node.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === " " || event.key === "Enter") node.click();
      else if (step && tokens[index + step]) {
        node.tabIndex = -1;
        tokens[index + step].tabIndex = 0;
        tokens[index + step].focus();
      } else if (!step) return;
      event.preventDefault();
      event.stopPropagation();
    };
    show(node, index);
  });
  list.append(...nodes);
  place.append(list);
  if (own.looked) place.append(h("p", "verdict", verdict()));
  else place.append(look);
  return place;
};

const askTask = () => {
  const own = state(), { question, choices, right } = data.ask;
  const place = h("fieldset", "ask");
  place.append(h("legend", "", question));
  choices.forEach((choice, index) => {
    const node = button("choice", choice, () => {
      own.choice = index;
      drawTasks();
      root().querySelectorAll(".choice")[index]?.focus();
    });
    const chosen = own.choice === index;
    node.setAttribute("aria-pressed", String(chosen));
    if (chosen) node.classList.add(index === right ? "right" : "wrong");
    if (chosen) node.prepend(index === right ? "✓ " : "✗ ");
    place.append(node);
  });
  if (own.choice !== null && own.choice !== right) place.append(h("p", "verdict", t("No. Look again, and try another.")));
  return place;
};

const writeTask = () => {
  const own = state(), place = h("div", "write"), label = h("label", "", data.write), box = h("textarea");
  box.value = own.text;
  box.rows = 2;
  const read = button("main", t("Read on"), () => { own.read = true; drawTasks(); });
  read.disabled = !own.text.trim();
  box.oninput = () => { own.text = box.value; read.disabled = !own.text.trim(); };
  label.append(box);
  place.append(label);
  if (!own.read) place.append(read);
  return place;
};

const mendTask = () => {
  const own = state(), place = h("div", "mends"), done = data.done.finding;
  place.append(h("p", "lead", done ? t("✓ The audit finds nothing to mend any more.")
    : t("Mend it: choose, or change it on the page yourself. The audit judges.")));
  data.mends.forEach((mend, index) => {
    const node = button("choice", mend, () => {
      own.mend = index;
      trigger("mend", { mend: index });
      drawTasks();
      root().querySelectorAll(".mends .choice")[index]?.focus();
    });
    node.setAttribute("aria-pressed", String(own.mend === index));
    if (own.mend === index && done) node.classList.add("right");
    place.append(node);
  });
  return place;
};

const recorded = () => {
  const place = h("div", "recorded"), { losses } = data;
  if (losses.length > 1) {
    const curve = h("p", "lead", t("Recorded, of {steps} steps over the same rows: the loss went from {first} to {last}.",
      { steps: losses.length, first: losses[0].toFixed(2), last: losses.at(-1).toFixed(2) }));
    curve.append(sparkline([losses], CURVE_WIDTH, CURVE_HEIGHT, { "aria-hidden": "true" }));
    place.append(curve);
  } else place.append(h("p", "lead", t("Recorded earlier, over the same rows:")));
  for (const { prompt, before, after } of data.recorded) {
    const pair = h("div", "pair");
    pair.append(h("p", "prompt", prompt));
    for (const [name, text] of [["before", before], ["after", after]]) {
      const answer = h("div", `answer ${name}`);
      answer.append(h("h5", "", t(name)), h("p", "text", text));
      pair.append(answer);
    }
    place.append(pair);
  }
  return place;
};

const drawTasks = () => {
  const place = root().querySelector(".tasks");
  const typing = place.contains(document.activeElement) && document.activeElement.tagName === "TEXTAREA";
  if (!typing || state().read) {
    place.replaceChildren();
    if (data.guess !== null) place.append(guessTask());
    if (data.recorded.length || data.losses.length) place.append(recorded());
    if (data.ask) place.append(askTask());
    if (data.write) place.append(writeTask());
    if (data.finding) place.append(mendTask());
    if (data.moves) place.append(h("p", "verdict", data.done.moves ? t("✓ Moved.") : ""));
    if (data.trains) place.append(h("p", "verdict", data.done.trains ? t("✓ A run is done.") : ""));
  }
  page.classList.toggle("guessing", data.guess !== null && !state().looked);
  // what is wrong is not told before the learner has said where
  page.classList.toggle("asking", Boolean(data.ask && state().choice !== data.ask.right));
  const all = tasks(), done = all.every(Boolean);
  const after = root().querySelector(".then");
  const shown = data.then && done ? data.then : "";
  if (after.dataset.shown !== shown) {
    after.dataset.shown = shown;
    after.replaceChildren(...(shown ? paragraphs(shown) : []));
  }
  root().querySelector(".next").classList.toggle("main", done);
};

const drawCard = () => {
  const card = h("section", "card" + (folded ? " folded" : ""));
  card.setAttribute("aria-label", t("Lesson: {title}", { title: data.lesson }));
  const head = h("header"), title = h("h2", "", data.title), steps = h("span", "track"), bar = h("span", "bar");
  title.tabIndex = -1;
  bar.style.width = `${100 * (data.index + 1) / data.count}%`;
  steps.append(bar);  // the words before it say the same
  const fold = button("fold", folded ? t("Unfold") : t("Fold"), () => {
    folded = card.classList.toggle("folded");
    fold.textContent = folded ? t("Unfold") : t("Fold");
    fold.setAttribute("aria-expanded", String(!folded));
  });
  fold.setAttribute("aria-expanded", String(!folded));
  head.append(h("span", "name", data.lesson), h("span", "count", t("{step} of {count}", { step: data.index + 1, count: data.count })), steps, fold,
    button("close", t("Close"), close));
  const body = h("div", "body"), then = h("div", "then"), nav = h("nav");
  nav.setAttribute("aria-label", t("steps of the lesson"));
  then.setAttribute("role", "status");
  const back = button("back", t("Back"), () => go(data.index - 1)), last = data.index + 1 === data.count;
  back.disabled = data.index === 0;
  nav.append(back, button("next", last ? t("Close the lesson") : t("Next"), last ? close : () => go(data.index + 1)));
  body.append(...paragraphs(data.text), h("div", "tasks"), then);
  card.append(head, title, body, nav);
  card.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "TEXTAREA") return;
    if (event.key === "ArrowRight") go(data.index + 1);
    else if (event.key === "ArrowLeft") go(data.index - 1);
    else if (event.key === "Escape") fold.click();
    else return;
    event.preventDefault();
  };
  root().replaceChildren(card);
  return title;
};

const draw = () => {
  data = value();
  if (!data || !root()) return;
  page.classList.toggle("in-lesson", Boolean(data.lesson));
  if (!data.lesson) return root().replaceChildren();
  const before = drawn;
  if (key() !== drawn) {
    drawn = key();
    const title = drawCard();
    drawTasks();
    point();
    if (before) title.focus({ preventScroll: true });
  } else drawTasks();
};
watch("value", draw);
draw();
