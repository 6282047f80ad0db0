const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const columns = h("div", "columns");
  for (const column of data.columns) {
    const node = h("section", "row");
    const head = h("header");
    head.append(h("span", "number", column.title), h("span", "count", t("{count} not trained", { count: column.prompt })),
      h("span", "count trained-count", t("{count} trained", { count: column.trained })));
    const body = h("div", "tokens");
    body.append(...tokenNodes(column.tokens));
    node.append(head, body, ...flagNodes(column.flags));
    columns.append(node);
  }
  place.replaceChildren(h("p", data.failed ? "flag" : "note", data.message), columns);
};
watch("value", draw);
draw();
