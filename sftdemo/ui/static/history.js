const picked = new Set();  // the runs whose boxes are checked, at most two
let leaving = null;        // the run whose deletion was asked for once
let naming = null;         // the run that is given a name and a note

const WIDTH = 120, HEIGHT = 30;
const line = (run, data) => {
  const node = h("section", "run" + (run.id === data.shown ? " shown" : ""));
  const box = h("input");
  box.type = "checkbox";
  box.checked = picked.has(run.id);
  box.setAttribute("aria-label", t("compare the run of {when}", { when: run.when }));
  box.onchange = () => {
    if (box.checked) picked.add(run.id); else picked.delete(run.id);
    while (picked.size > 2) picked.delete(picked.values().next().value);
    draw();
  };
  const words = h("div", "words");
  words.append(h("b", "", run.title), h("span", "when", run.when), h("p", "note", run.detail), h("p", "result", run.result));
  if (run.note && naming !== run.id) words.append(h("p", "own-note", run.note));
  if (naming === run.id) words.append(form(run, data));
  const acts = h("div", "acts");
  if (run.go_on) acts.append(button("go-on", run.go_on, () => trigger("go_on", { run: run.id })));
  if (run.is_saved) {
    acts.append(button("open", run.id === data.shown ? t("shown above") : t("Show"), () => trigger("open", { run: run.id })));
    acts.append(button("name", run.name || run.note ? t("Rename") : t("Name it"), () => {
      naming = naming === run.id ? null : run.id;
      draw();
      root().querySelector(".label-form input")?.focus();
    }));
    acts.append(button("take", t("Train on"), () => trigger("take", { run: run.id })));
  }
  acts.append(button("delete" + (leaving === run.id ? " sure" : ""), leaving === run.id ? t("Delete for good?") : t("Delete"), () => {
    if (leaving === run.id) { leaving = null; picked.delete(run.id); trigger("remove", { run: run.id }); }
    else { leaving = run.id; draw(); }
  }));
  if (run.is_saved) node.append(box, sparkline(run.curves, WIDTH, HEIGHT, { role: "img", "aria-label": run.curve }));
  else node.append(h("span", "no-box"), h("span", "no-curve"));
  node.append(words, acts);
  return node;
};

const form = (run, data) => {
  const box = h("form", "label-form"), name = h("input"), note = h("textarea");
  Object.assign(name, { type: "text", value: run.name, maxLength: data.most_name, placeholder: t("Name") });
  Object.assign(note, { value: run.note, maxLength: data.most_note, rows: 2, placeholder: t("Note") });
  name.setAttribute("aria-label", t("name of the run"));
  note.setAttribute("aria-label", t("note on the run"));
  const keep = button("keep", t("Keep"));
  keep.type = "submit";
  const ends = h("div", "ends");
  ends.append(keep, button("cancel", t("Cancel"), () => { naming = null; draw(); }));
  box.append(name, note, ends);
  box.onsubmit = (event) => {
    event.preventDefault();
    naming = null;
    trigger("named", { run: run.id, name: name.value, note: note.value });
    draw();
  };
  return box;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const there = new Set(data.runs.map((run) => run.id));
  for (const id of picked) if (!there.has(id)) picked.delete(id);
  const parts = [h("p", "note", data.message), ...data.problems.map((problem) => h("p", "flag", problem))];
  parts.push(...data.runs.map((run) => line(run, data)));
  if (data.runs.filter((run) => run.is_saved).length > 1) {
    const contrast = button("contrast", picked.size === 2 ? t("Set the two side by side") : t("Check two runs to set them side by side"), () => {
      trigger("contrast", { runs: [...picked] });
    });
    contrast.disabled = picked.size !== 2;
    parts.push(contrast);
  }
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
