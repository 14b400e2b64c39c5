// Starts Swagger UI on this server's own document: no validator elsewhere, "Try it out" already pressed.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

// Swagger UI puts a text in quotes where the media type has "json" in its name. Lines of JSON are no JSON: an example of
// them is shown, and sent, as it stands.
const Lines = () => ({
  afterLoad() {
    const samples = this.fn.jsonSchema202012;
    const sample = samples.getJsonSampleSchema;
    samples.getJsonSampleSchema = (schema, config, type, example) =>
      sample(schema, config, type === "application/x-ndjson" ? "text/plain" : type, example);
  },
});

// Swagger UI puts a link into the button that opens an operation, which no assistive technology can tell apart. The button
// writes the address of the operation as well.
const PlainPaths = { components: { DeepLink: ({ text }) => text } };

const address = new URL(document.getElementById("swagger-ui").dataset.openapi, location.href).href;

// The groups of the last kind are folded: the protocols of other servers, which most readers never need.
function fold() {
  const spec = ui.specSelectors.specJson().toJS();
  const named = decodeURIComponent(location.hash).split("/")[1];
  for (const tag of spec["x-tagGroups"]?.find(({ name }) => name.startsWith("Protocols"))?.tags ?? [])
    if (tag !== named) ui.layoutActions.show(["operations-tag", tag], false);
}

// Swagger UI gives these fields no name, which a screen reader needs.
const NAMES = { ".body-param__text": "Request body", ".examples-select-element": "Example" };

function name() {
  for (const [selector, text] of Object.entries(NAMES))
    for (const field of document.querySelectorAll(`${selector}:not([aria-label])`)) field.setAttribute("aria-label", text);
}

new MutationObserver(name).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });

const ui = SwaggerUIBundle({
  url: address,
  onComplete: fold,
  responseInterceptor: (response) => {
    if (response.ok && response.url === address)
      response.text = JSON.stringify(shown(JSON.parse(response.text), address));
    return response;
  },
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 3,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [Lines, PlainPaths],
  layout: "BaseLayout",
});
