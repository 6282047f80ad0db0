const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = [h("p", "summary", data.summary)];
  if (data.hash) {
    const hash = h("p", "note", data.hash);
    hash.title = t("Over row numbers, ids and labels. A run refuses to start where its own rows have another; the terminal prints the same.");
    parts.push(hash);
  }
  if (data.fraction !== null) {
    const track = h("div", "track"), bar = h("div", "bar");
    bar.style.width = `${Math.round(100 * data.fraction)}%`;
    track.append(bar);
    parts.push(track);
  }
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
