"use strict";
// The OpenAPI document as a page: every call with what it takes, within which limits, and what it answers.

const LIMITS = [["minimum", ">="], ["exclusiveMinimum", ">"], ["maximum", "<="], ["exclusiveMaximum", "<"],
  ["minLength", "length >="], ["maxLength", "length <="], ["default", "default"]];

function made(name, text, ...children) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  return schema.type === "array" ? `list of ${kind(schema.items || {})}` : schema.type || "anything";
}

function limits(schema) {
  const own = LIMITS.filter(([key]) => schema[key] !== undefined && schema[key] !== null)
    .map(([key, word]) => `${word} ${JSON.stringify(schema[key])}`);
  return [...own, ...(schema.anyOf || []).flatMap(limits)];
}

function table(caption, rows) {
  const body = made("tbody");
  for (const [name, ...cells] of rows) {
    const first = made("th", name);
    first.scope = "row";
    body.append(made("tr", "", first, ...cells.map((cell) => made("td", cell))));
  }
  return made("table", "", made("caption", caption), body);
}

function fields(document_, schema) {
  const found = schema.$ref ? document_.components.schemas[schema.$ref.split("/").pop()] : schema;
  const needed = new Set(found.required || []);
  return Object.entries(found.properties || {}).map(([name, field]) =>
    [name, [kind(field), ...limits(field)].join("; "), [needed.has(name) ? "needed." : "", field.description].filter(Boolean).join(" ")]);
}

function schemaOf(content) {
  return content?.["application/json"]?.schema;
}

function call(document_, path, verb, said) {
  const card = made("section", "", made("h2", "", Object.assign(made("span", verb.toUpperCase()), { className: "verb" }), made("code", path)));
  card.className = "card call";
  if (said.description || said.summary) card.append(made("p", said.description || said.summary));
  const given = (said.parameters || []).map((each) =>
    [each.name, `in the ${each.in}`, [kind(each.schema), ...limits(each.schema)].join("; ")]);
  if (given.length) card.append(table("Given", given));
  const body = schemaOf(said.requestBody?.content);
  if (body) card.append(table("Body", fields(document_, body)));
  const answers = Object.entries(said.responses).map(([status, answer]) => {
    const schema = schemaOf(answer.content);
    return [status, answer.description || "", schema ? fields(document_, schema).map(([name]) => name).join(", ") || kind(schema) : ""];
  });
  card.append(table("Answers", answers));
  return card;
}

fetch("openapi.json").then((answer) => answer.json()).then((document_) => {
  document.getElementById("summary").textContent = `${document_.info.title} ${document_.info.version}. ${document_.info.summary || ""}`;
  for (const [path, verbs] of Object.entries(document_.paths))
    for (const [verb, said] of Object.entries(verbs)) document.getElementById("calls").append(call(document_, path, verb, said));
  document.documentElement.dataset.ready = "yes";
}).catch((error) => {
  document.getElementById("summary").textContent = `openapi.json cannot be read: ${error.message}`;
});
