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
  box.setAttribute("role", "status");
  place.replaceChildren(box);
};
watch("value", draw);
draw();
