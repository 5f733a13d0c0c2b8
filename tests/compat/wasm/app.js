addEventListener('fetch', (event) => event.respondWith(handle(event.request)));
async function handle(request) {
  const url = new URL(request.url);
  console.log(`${request.method} ${url.pathname} ${request.headers.get("ce-type")}`);
  if (url.pathname === '/boom') throw new Error('boom');
  if (request.headers.get('ce-type')) {
    const event = await request.json();
    return Response.json({ type: request.headers.get('ce-type'), event });
  }
  const body = await request.text();
  return new Response(`hello from js: ${body}`, { status: 201, headers: { 'x-path': url.pathname + url.search } });
}
