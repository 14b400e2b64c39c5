// Starts ReDoc on this server's own document, in the colours of the other pages and with the system's fonts.
"use strict";

const place = document.getElementById("redoc");
const address = new URL(place.dataset.openapi, location.href).href;
const dark = matchMedia("(prefers-color-scheme: dark)");
const sans = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif';
const mono = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace';
const ink = dark.matches
  ? { text: "#e4eae7", quiet: "#9fada7", line: "#2f3a36", side: "#161c1a", main: "#0f7f72", accent: "#5fd0b8", panel: "#0d1211",
      good: "#5fd0a0", bad: "#ff8d80", warn: "#e6b450" }
  : { text: "#1c2321", quiet: "#57625e", line: "#e2ded4", side: "#f4f1ea", main: "#0f766e", accent: "#0f766e", panel: "#17211f",
      good: "#17703d", bad: "#b42318", warn: "#8a5a00" };

const options = {
  sanitize: true,
  hideDownloadButtons: false,
  downloadUrls: [{ title: "openapi.json", url: address }],
  expandResponses: "200",
  requiredPropsFirst: true,
  jsonSamplesExpandLevel: 3,
  hideLoading: true,
  theme: {
    spacing: { sectionVertical: 28 },
    breakpoints: { medium: "60rem", large: "85rem" },
    colors: {
      primary: { main: ink.main },
      text: { primary: ink.text, secondary: ink.quiet },
      border: { dark: ink.line, light: ink.line },
      success: { main: ink.good },
      error: { main: ink.bad },
      warning: { main: ink.warn },
      responses: {
        success: { color: ink.good, tabTextColor: "#7fe0b4" },
        error: { color: ink.bad, tabTextColor: "#ff9c91" },
      },
      http: { get: "#1f6f9c", post: "#0f766e" },
    },
    schema: { linesColor: ink.line, nestedBackground: ink.side, typeNameColor: ink.quiet, typeTitleColor: ink.quiet,
              requireLabelColor: ink.bad, labelsTextSize: "0.85em" },
    sidebar: { width: "16rem", backgroundColor: ink.side, textColor: ink.text, activeTextColor: ink.accent },
    rightPanel: { backgroundColor: ink.panel, textColor: "#dfe9e5" },
    codeBlock: { backgroundColor: dark.matches ? "#171f1c" : "#0e1614" },
    typography: {
      fontSize: "15px",
      lineHeight: "1.6",
      fontFamily: sans,
      headings: { fontFamily: sans, fontWeight: "650" },
      code: { fontFamily: mono, fontSize: "13px", color: ink.accent, backgroundColor: ink.side },
      links: { color: ink.accent, visited: ink.accent, hover: ink.accent },
    },
  },
};

fetch(address)
  .then((answer) => answer.json())
  .then((spec) => Redoc.init(shown(spec, address), options, place))
  // ReDoc asks itself then, and says what went wrong.
  .catch(() => Redoc.init(address, options, place));

// What ReDoc's own markup lacks: a code sample that scrolls can be reached by keyboard, and no level of headings is left out.
const mend = () => {
  for (const sample of place.querySelectorAll("pre:not([tabindex])")) sample.tabIndex = 0;
  for (const heading of place.querySelectorAll("h5:not([aria-level])")) {
    heading.setAttribute("role", "heading");
    heading.setAttribute("aria-level", "3");
  }
};
new MutationObserver(mend).observe(place, { childList: true, subtree: true });

// ReDoc takes its colours once: a reader who switches between light and dark gets the page anew.
dark.addEventListener("change", () => location.reload());
