const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  if (!data.rows.length) { place.replaceChildren(); return; }
  const table = h("table");
  const head = h("tr");
  head.append(h("td"), ...data.columns.map((name) => h("th", "", name)));
  table.append(head);
  for (const [name, unit, cells] of data.rows) {
    const line = h("tr");
    const title = h("th", "", name);
    title.scope = "row";
    title.append(h("span", "unit", unit));
    line.append(title, ...cells.map((cell) => h("td", "", cell)));
    table.append(line);
  }
  const scroll = h("div", "scroll");
  scroll.append(table);
  place.replaceChildren(scroll, ...data.notes.map((note) => h("p", "note", note)));
};
watch("value", draw);
draw();
