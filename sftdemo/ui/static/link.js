const address = () => new URL(window.location.href);
let copied = 0;       // how many links were copied
let opened = "";      // the panel that a link opened
const page = document.documentElement;

// The panel that is open; of several the lowest, which was asked for last.
const openDoor = (doors) => {
  let found = "";
  for (const [name, [id, tab]] of Object.entries(doors)) {
    const place = document.getElementById(id);
    if (!place?.querySelector("button.label-wrap.open")) continue;
    if (!tab || place.querySelector('[role="tab"][aria-selected="true"]')?.textContent.trim() === tab) found = name;
  }
  return found;
};

const openPanel = ([id, tab], tries = 20) => {
  const place = document.getElementById(id);
  const door = place?.querySelector("button.label-wrap");
  if (door && !door.classList.contains("open")) door.click();
  const tabs = [...(place?.querySelectorAll('[role="tab"]') || [])];
  const wanted = tabs.find((each) => each.textContent.trim() === tab);
  if (!door || (tab && !wanted)) {
    if (tries) setTimeout(() => openPanel([id, tab], tries - 1), 100);
    return;
  }
  if (wanted) wanted.click();
  place.scrollIntoView({ block: "nearest" });
};

const present = (on) => {
  page.classList.toggle("present", on);
  const to = address();
  if (on) to.searchParams.set("present", ""); else to.searchParams.delete("present");
  history.replaceState(history.state, "", to);
  draw();
};

const linkOf = (query) => {
  const to = address(), theme = to.searchParams.get("__theme");
  to.search = query;
  if (theme) to.searchParams.set("__theme", theme);
  if (page.classList.contains("present")) to.searchParams.set("present", "");
  to.hash = "";
  return to.href;
};

const showLink = (query, place) => {
  const line = h("p", "copied"), field = h("input");
  field.readOnly = true;
  field.value = linkOf(query);
  field.setAttribute("aria-label", t("the link"));
  field.onfocus = () => field.select();
  const said = h("span", "said", "");
  said.setAttribute("role", "status");
  line.append(said, field);
  place.append(line);
  const byHand = () => { said.textContent = t("Copy it from here:"); field.focus(); };
  // a page without https has no clipboard
  if (!navigator.clipboard) return byHand();
  navigator.clipboard.writeText(field.value).then(() => { said.textContent = t("Copied:"); }, byHand);
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  page.lang = LANG;
  const presenting = page.classList.contains("present");
  const line = h("p", "buttons");
  line.append(
    button("copy", t("Copy link"), () => trigger("copy", {
      open: openDoor(data.doors) || "",
      lesson: address().searchParams.get("lesson") || "",
      step: Number.parseInt(address().searchParams.get("step")) || 0,
    })),
    button("presenting", presenting ? t("End presenting") : t("Present"), () => present(!presenting)),
  );
  const lessons = h("span", "lessons", t("Lessons: "));
  data.lessons.forEach(([name, title], index) => {
    const door = h("a", "", title), to = address();
    const kept = new URLSearchParams({ lesson: name });
    for (const each of ["__theme", "present", "lang"]) if (to.searchParams.has(each)) kept.set(each, to.searchParams.get(each));
    to.search = kept;
    door.href = to.href;
    if (to.searchParams.get("lesson") === address().searchParams.get("lesson")) door.setAttribute("aria-current", "page");
    lessons.append(...(index ? [" · ", door] : [door]));
  });
  line.prepend(lessons);
  line.append(...Object.entries(data.languages).filter(([name]) => !LANG.startsWith(name)).map(([name, words]) => {
    const door = h("a", "language", words), to = address();
    to.searchParams.set("lang", name);
    door.href = to.href;
    door.lang = name;
    return door;
  }));
  const known = place.querySelector(".copied");
  place.replaceChildren(line, ...data.notes.map((note) => h("p", "note", note)));
  if (data.made > copied && data.query) showLink(data.query, place);
  else if (data.made && data.query && known) place.append(known);
  copied = data.made;
  if (data.open && data.open !== opened) {
    opened = data.open;
    openPanel(data.doors[opened]);
  }
};
page.classList.toggle("present", address().searchParams.has("present"));
watch("value", draw);
draw();
