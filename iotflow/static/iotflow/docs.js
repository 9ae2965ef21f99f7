// Swagger UI on our schema; staff's session is good for trying it, with the token that forms have.

const { schema, csrf } = document.getElementById("swagger-ui").dataset;

SwaggerUIBundle({
  url: schema,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  requestInterceptor(request) {
    const isOurs = new URL(request.url, location.href).origin === location.origin;
    if (isOurs && request.method && request.method !== "GET") request.headers["X-CSRFToken"] = csrf;
    return request;
  },
});
