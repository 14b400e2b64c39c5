// The document as people read it: without the limits of a number's width or of a proof, 1e+300 and the like, which stand
// in openapi.json for programs.
"use strict";

const WIDE = 1e30;

function readable(node) {
  if (Array.isArray(node)) return node.map(readable);
  if (node === null || typeof node !== "object") return node;
  const kept = Object.entries(node).filter(
    ([key, value]) => !((key === "minimum" || key === "maximum") && Math.abs(value) >= WIDE),
  );
  return Object.fromEntries(
    kept.map(([key, value]) => [key, key === "example" || key === "examples" ? value : readable(value)]),
  );
}

// The document that was fetched from `address`, for a page. Its servers become whole URLs, because ReDoc would resolve them
// against the address of its page.
function shown(spec, address) {
  const whole = (server) => ({ ...server, url: new URL(server.url, address).href.replace(/\/$/, "") });
  return { ...readable(spec), servers: spec.servers?.map(whole) };
}
