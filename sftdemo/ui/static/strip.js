// A strip at the window's edge while a run goes: it stays in sight wherever the page is read, and leads to the answers.
let hasRun = false;   // a run that ended before the page came is not announced
let closed = false;
let announced = "";

const WIDE = 96, HIGH = 26;
const close = () => { closed = true; draw(); };
const see = (id) => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.getElementById(id)?.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
};

const pairNode = ({ prompt, before, after }) => {
  const node = h("p", "pair");
  node.append(h("b", "", prompt), h("span", "before", before));
  if (after !== null) node.append(h("span", "arrow", "→"), h("span", "after", after));
  return node;
};

// Said by a screen reader at a new phase, at each quarter, and at the end; not at every step.
const announce = (live, data) => {
  const quarter = data.fraction === null ? "" : `${Math.floor(4 * data.fraction) * 25} %`;
  const words = data.state === "working" ? `${data.phase} ${quarter}` : data.title;
  if (words === announced) return;
  announced = words;
  live.textContent = words;
};

const frame = () => {
  const place = root();
  let box = place.querySelector(".strip-box");
  if (!box) {
    box = h("section", "strip-box");
    box.setAttribute("aria-label", t("The run that is under way"));
    const live = h("p", "strip-live");
    live.setAttribute("aria-live", "polite");
    place.append(box, live);
  }
  return [box, place.querySelector(".strip-live")];
};

const draw = () => {
  const data = value();
  if (!data || !root()) return;
  const works = data.state === "working";
  if (works && !hasRun) closed = false;
  hasRun ||= works;
  const isShown = hasRun && !closed && data.state !== "idle";
  document.body.classList.toggle("has-strip", isShown);
  const [box, live] = frame();
  box.hidden = !isShown;
  box.className = `strip-box ${data.state}`;
  if (!isShown) return;
  const focused = box.contains(document.activeElement) ? document.activeElement.className : null;
  const track = h("div", "strip-track"), bar = h("div", "strip-bar");
  bar.style.width = `${Math.round(100 * (works ? data.fraction ?? 0 : 1))}%`;
  track.append(bar);
  const words = h("div", "words");
  words.append(h("b", "title", data.title), h("span", "detail", data.detail));
  const acts = h("div", "acts");
  if (works) acts.append(button("halt", t("Stop"), (event) => {
    event.target.textContent = t("Stopping…");
    event.target.disabled = true;
    trigger("halt", {});
  }));
  else {
    hasRun = hasRun && !closed;
    if (data.answers) acts.append(button("see", data.answers === 1 ? t("See 1 answer") : t("See {count} answers", { count: data.answers }), () => { see("compare"); close(); }));
    else acts.append(button("see", t("See what happened"), () => { see("run-status"); close(); }));
    const cross = button("close", "×", close);
    cross.setAttribute("aria-label", t("Close"));
    acts.append(cross);
  }
  box.replaceChildren(track, words, sparkline(data.curves, WIDE, HIGH, { "aria-hidden": "true" }), acts, ...(data.pair ? [pairNode(data.pair)] : []));
  if (focused) box.querySelector(`.${focused.split(" ")[0]}`)?.focus({ preventScroll: true });
  announce(live, data);
};
watch("value", () => {
  const data = value();
  if (data && data.state === "working" && data.begins) { closed = false; announced = ""; }
  draw();
});
draw();
