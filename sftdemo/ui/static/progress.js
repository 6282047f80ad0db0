const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const box = h("div", "progress " + data.state);
  const line = h("div", "line");
  line.append(h("span", "title", data.title), h("span", "detail", data.detail));
  box.append(line);
  if (data.state === "working") {
    const track = h("div", "track");
    const bar = h("div", data.fraction === null ? "bar unknown" : "bar");
    if (data.fraction !== null) bar.style.width = `${Math.round(100 * data.fraction)}%`;
    track.append(bar);
    box.append(track);
  }
  for (const note of data.notes) box.append(h("p", "note", note));
  if (data.link) {
    const link = h("a", "", data.link.words);
    link.href = data.link.address;
    link.target = "_blank";
    link.rel = "noopener";
    const line = h("p", "note");
    line.append(link);
    box.append(line);
  }
  box.setAttribute("role", "status");
  place.replaceChildren(box);
};
watch("value", draw);
draw();
