// OAuth2 servers and an endpoint that trusts only them, for `tests/foreign.rs`.
//
// Prints one line of JSON when it listens, and another when its stdin ends: what it saw. The endpoint
// answers 200 only to a request whose token its server knows and whose signature the reference
// library of Standard Webhooks accepts.

import http from 'node:http';
import OAuth2Server from '@node-oauth/oauth2-server';
import Provider from 'oidc-provider';
import { Webhook } from 'standardwebhooks';

const { CLIENT_ID, CLIENT_SECRET, USERNAME, PASSWORD, SIGNING_SECRET } = process.env;

const report = { tokens: {}, refusals: {}, delivered: {}, unsigned: [] };
const count = (kind, name) => { report[kind][name] = (report[kind][name] ?? 0) + 1; };

const listen = (handle) => new Promise((resolve) => {
  const server = http.createServer(handle);
  server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
});

const bodyOf = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
};

const answer = (response, status, headers = {}, body = '') => {
  response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
  response.end(body);
};

// A client credentials server whose one client authenticates in one way only.
const clientCredentials = async (name, method, seconds) => {
  let handle;
  const url = await listen((request, response) => {
    response.on('finish', () => count(response.statusCode === 200 ? 'tokens' : 'refusals', name));
    handle(request, response);
  });
  const provider = new Provider(url, {
    clients: [{
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: method,
    }],
    features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
    ttl: { ClientCredentials: seconds },
  });
  handle = provider.callback();
  const knows = async (token) => (await provider.ClientCredentials.find(token)) !== undefined;
  const revoke = async (token) => (await provider.ClientCredentials.find(token)).destroy();
  return { url: `${url}/token`, knows, revoke };
};

// A password server that gives refresh tokens, each good for one use.
const password = async (name) => {
  const tokens = new Map();
  const refreshes = new Map();
  const model = {
    getClient: (id, secret) => id === CLIENT_ID && secret === CLIENT_SECRET
      && { id, grants: ['password', 'refresh_token'] },
    getUser: (user, secret) => user === USERNAME && secret === PASSWORD && { id: user },
    saveToken: (token, client, user) => {
      const saved = { ...token, client, user };
      tokens.set(token.accessToken, saved);
      refreshes.set(token.refreshToken, saved);
      return saved;
    },
    getAccessToken: (token) => tokens.get(token),
    getRefreshToken: (token) => refreshes.get(token),
    revokeToken: (token) => refreshes.delete(token.refreshToken),
  };
  const server = new OAuth2Server({ model });
  const url = await listen(async (request, response) => {
    const body = Object.fromEntries(new URLSearchParams(await bodyOf(request)));
    const { headers, method } = request;
    const asked = new OAuth2Server.Request({ headers, method, query: {}, body });
    const given = new OAuth2Server.Response({ headers: {} });
    try {
      await server.token(asked, given);
      count('tokens', `${name} ${body.grant_type}`);
    } catch {
      count('refusals', `${name} ${body.grant_type}`);
    }
    const type = { 'content-type': 'application/json' };
    answer(response, given.status, { ...given.headers, ...type }, JSON.stringify(given.body));
  });
  const knows = async (token) => tokens.has(token);
  const revoke = async (token) => tokens.delete(token);
  return { url: `${url}/token`, knows, revoke };
};

const servers = {
  basic: await clientCredentials('basic', 'client_secret_basic', 600),
  form: await clientCredentials('form', 'client_secret_post', 600),
  short: await clientCredentials('short', 'client_secret_basic', 20),
  revoked: await clientCredentials('revoked', 'client_secret_post', 600),
  password: await password('password'),
};

// Which servers have had a token revoked: the first that is used at `revoked` and `password`.
const revoked = new Set();

const endpoint = await listen(async (request, response) => {
  const body = await bodyOf(request);
  const name = request.url.slice(1);
  const server = servers[name];
  const token = (request.headers.authorization ?? '').replace('Bearer ', '');
  if (!await server.knows(token)) return answer(response, 401);
  try {
    new Webhook(SIGNING_SECRET).verify(body, request.headers);
  } catch (error) {
    report.unsigned.push(`${name}: ${error.message}`);
    return answer(response, 400);
  }
  count('delivered', name);
  if ((name === 'revoked' || name === 'password') && !revoked.has(name)) {
    revoked.add(name);
    await server.revoke(token);
  }
  return answer(response, 200);
});

const urls = Object.fromEntries(Object.entries(servers).map(([name, { url }]) => [name, url]));
console.log(JSON.stringify({ endpoint, tokens: urls }));

process.stdin.on('end', () => {
  console.log(JSON.stringify(report));
  process.exit(0);
}).resume();
