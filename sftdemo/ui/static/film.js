let at = null;      // the frame that is shown, as an index; null until one was chosen: the last one then
let timer = null;   // while the film plays

const SOURCES = { "held out": t("held out"), typed: t("typed"), training: t("training") };
const PACE = 1100;  // milliseconds that a frame stays while the film plays
const WIDTH = 220, HEIGHT = 74, EDGE = 6;

// The held-out loss on answers and prompts against the step, with a dot at the frame that is shown.
const curves = (frames, index) => {
  const top = Math.max(...frames.flatMap((frame) => [frame.completion_loss, frame.prompt_loss]), 0.001);
  const last = frames.at(-1).step || 1;
  const place = (frame, key) => [EDGE + (frame.step / last) * (WIDTH - 2 * EDGE), HEIGHT - EDGE - (frame[key] / top) * (HEIGHT - 2 * EDGE)];
  const shown = frames[index];
  const node = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curves", role: "img",
    "aria-label": t("held-out loss at step {step}: answers {answers}, prompts {prompts}",
      { step: shown.step, answers: shown.completion_loss.toFixed(2), prompts: shown.prompt_loss.toFixed(2) }) });
  for (const key of ["prompt_loss", "completion_loss"]) {
    node.append(svg("polyline", { points: frames.map((frame) => place(frame, key).join(",")).join(" "), class: key }));
    const [x, y] = place(shown, key);
    node.append(svg("circle", { cx: x, cy: y, r: 4, class: key }));
  }
  return node;
};

// All answers to a question lie over each other, so that nothing moves when another frame is shown.
const answers = (frames, question) => frames.map((frame) => {
  const [, , text, stop] = frame.answers[question];
  const node = h("div", "said");
  node.append(h("p", text ? "text" : "text empty", text || t("(nothing)")), h("span", STOPS[stop][1], STOPS[stop][0]));
  return node;
});

// A held-out row as it was written; its tokens are painted by their loss at each frame.
const rowNode = (row) => {
  const body = h("div", "tokens"), nodes = tokenNodes(row.tokens);
  const tokens = nodes.filter((token) => token.dataset.index);
  tokens.forEach((token, index) => {
    token.className = "token" + (row.tokens[index][3] & TRAINED ? " is-trained" : " untrained") + (isRest(row.tokens[index]) ? " rest" : "");
  });
  body.append(...nodes);
  return { body, tokens };
};

const arm = (data, { name, frames, moments }) => {
  const node = h("section", "arm"), losses = frames[0].losses.length > 0;
  const graph = h("div", "graph"), facts = h("p", "facts");
  if (data.arms.length > 1) node.append(h("h3", "", name));
  if (losses) {
    const head = h("div", "head"), told = h("div", "told");
    told.append(facts, ...moments.map((sentence) => h("p", "moment", sentence)));
    head.append(graph, told);
    node.append(head);
  }
  if (losses && data.rows.length) node.append(h("p", "note", t("With each answer stands its row as it was written, its own answer underlined. The deeper a token's blue, the higher its loss; point at it for the figures.")));
  const rows = losses ? data.rows.map((row, number) => [number, rowNode(row), row.question]) : [];
  const layers = frames[0].answers.map(([prompt, source], question) => {
    const box = h("div", "asked"), said = h("div"), stack = h("div", "stack"), all = answers(frames, question);
    said.append(foldable("prompt", prompt), h("span", "source", SOURCES[source]), stack);
    stack.append(...all);
    box.append(said, ...rows.filter(([, , asked]) => asked === prompt).map(([, { body }]) => body));
    node.append(box);
    return all;
  });
  for (const [, { body }] of rows) if (!body.parentNode) node.append(body);  // of a question that is not asked

  const show = (index) => {
    const frame = frames[Math.min(index, frames.length - 1)];
    layers.forEach((all) => all.forEach((each, place) => { each.classList.toggle("on", frames[place] === frame); each.setAttribute("aria-hidden", String(frames[place] !== frame)); }));
    if (losses) {
      graph.replaceChildren(curves(frames, frames.indexOf(frame)));
      const of = frame.losses.length;
      facts.replaceChildren(h("span", "completion_loss", t("answers {loss}", { loss: frame.completion_loss.toFixed(2) })), " · ",
        h("span", "prompt_loss", t("prompts {loss}", { loss: frame.prompt_loss.toFixed(2) })), " " +
        t("nats a token · likeliest: the answer's first token in {begun} of {of} rows, its end in {ended}", { begun: frame.begun, of, ended: frame.ended }));
    }
    for (const [number, { tokens }] of rows) {
      tokens.forEach((token, index) => {
        const loss = index ? frame.losses[number][index - 1] : null;
        const share = loss === null ? 0 : Math.min(1, loss / TOP);
        ground(token, share);
        token.title = loss === null ? t("the first token, which nothing predicts") : t("{loss} nats, rank {rank}", { loss: loss.toFixed(2), rank: frame.ranks[number][index - 1].toLocaleString("en") });
      });
    }
  };
  return { node, show };
};

const stopPlaying = () => { clearInterval(timer); timer = null; };

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  stopPlaying();
  if (!data.arms.length) {
    at = null;
    place.replaceChildren(h("p", data.failed ? "flag" : "note", data.message));
    return;
  }
  const frames = data.arms[0].frames, last = frames.length - 1;
  const arms = data.arms.map((each) => arm(data, each));
  const bar = h("div", "reel"), play = h("button", "play", t("▶ Play")), slider = h("input"), label = h("output", "when");
  play.type = "button";
  Object.assign(slider, { type: "range", min: 0, max: last, step: 1 });
  slider.setAttribute("aria-label", t("step of the training"));
  const ticks = h("div", "ticks");
  frames.forEach((frame, index) => {
    const tick = h("span", "", String(frame.step));
    tick.style.left = `${last ? (100 * index) / last : 0}%`;
    ticks.append(tick);
  });
  const show = (index) => {
    slider.value = index;
    const step = frames[index].step, growing = Boolean(data.message);  // the last one is not known yet
    const words = growing ? t("step {step}", { step }) : t("step {step} of {last}", { step, last: frames[last].step });
    slider.setAttribute("aria-valuetext", words);
    label.textContent = words;
    for (const each of arms) each.show(index);
  };
  const pause = () => { stopPlaying(); play.textContent = t("▶ Play"); };
  play.onclick = () => {
    if (timer) { pause(); return; }
    if (Number(slider.value) === last) show(at = 0);
    play.textContent = t("❚❚ Pause");
    timer = setInterval(() => {
      show(at = Math.min(Number(slider.value) + 1, last));
      if (at === last) pause();
    }, PACE);
  };
  slider.oninput = () => { pause(); show(at = Number(slider.value)); };
  const rail = h("div", "rail");
  rail.append(slider, ticks);
  bar.append(play, rail, label);
  const strip = h("div", "arms");
  strip.style.setProperty("--columns", arms.length);
  strip.append(...arms.map(({ node }) => node));
  const note = data.message ? [h("p", "note", data.message)] : [];
  place.replaceChildren(...note, bar, strip);
  if (at !== null && at > last) at = null;
  show(at ?? last);
};
watch("value", draw);
draw();
