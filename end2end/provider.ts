// An OpenID Connect provider for tests: its own keys, a page where one signs in, and the checks that a
// strict one makes of its client.
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

const CLIENT = 'atelier';
const SECRET = 'known to both';

interface Grant {
  subject: string;
  nonce: string;
  challenge: string;
  redirect: string;
}

/** A provider that signs with RS256. Whoever comes chooses who they are. */
export class Provider {
  url = '';
  private readonly server: Server;
  private readonly keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
  private readonly grants = new Map<string, Grant>();

  /** `people`: the buttons on its page. */
  constructor(private readonly people: string[]) {
    this.server = createServer(async (request, response) => {
      const url = new URL(request.url!, this.url);
      const [status, kind, body] = await this.answer(request, url);
      response.writeHead(status, status === 302 ? { location: body } : { 'content-type': kind });
      response.end(status === 302 ? '' : body);
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((ready) => this.server.listen(0, '127.0.0.1', ready));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((gone) => this.server.close(gone));
  }

  /** What `atelier serve` is told to use it. */
  settings(): Record<string, string> {
    return {
      ATELIER_OIDC_ISSUER: this.url,
      ATELIER_OIDC_CLIENT_ID: CLIENT,
      ATELIER_OIDC_CLIENT_SECRET: SECRET,
      ATELIER_OIDC_NAME: 'the lab',
    };
  }

  private async answer(
    request: IncomingMessage,
    url: URL,
  ): Promise<[status: number, kind: string, body: string]> {
    const json = (value: unknown, status = 200): [number, string, string] => [
      status,
      'application/json',
      JSON.stringify(value),
    ];
    const query = url.searchParams;
    switch (url.pathname) {
      case '/.well-known/openid-configuration':
        return json({
          issuer: this.url,
          authorization_endpoint: `${this.url}/authorize`,
          token_endpoint: `${this.url}/token`,
          jwks_uri: `${this.url}/keys`,
          token_endpoint_auth_methods_supported: ['client_secret_post'],
        });
      case '/keys': {
        const key = this.keys.publicKey.export({ format: 'jwk' });
        return json({ keys: [{ ...key, kid: 'one', use: 'sig', alg: 'RS256' }] });
      }
      case '/authorize': {
        const chosen = query.get('as');
        if (!chosen) {
          const links = this.people.map((name) => {
            const to = new URL(url);
            to.searchParams.set('as', name);
            return `<p><a href="${to.href.replaceAll('&', '&amp;')}">I am ${name}</a></p>`;
          });
          const page = `<!doctype html><html lang="en"><title>The lab</title>${links.join('')}</html>`;
          return [200, 'text/html', page];
        }
        const code = randomUUID();
        this.grants.set(code, {
          subject: chosen,
          nonce: query.get('nonce')!,
          challenge: query.get('code_challenge')!,
          redirect: query.get('redirect_uri')!,
        });
        const back = new URL(query.get('redirect_uri')!);
        back.searchParams.set('code', code);
        back.searchParams.set('state', query.get('state')!);
        return [302, '', back.href];
      }
      case '/token': {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const form = new URLSearchParams(Buffer.concat(chunks).toString());
        const grant = this.grants.get(form.get('code')!);
        this.grants.delete(form.get('code')!);
        const proof = createHash('sha256').update(form.get('code_verifier')!).digest('base64url');
        if (
          !grant ||
          form.get('client_id') !== CLIENT ||
          form.get('client_secret') !== SECRET ||
          form.get('redirect_uri') !== grant.redirect ||
          proof !== grant.challenge
        ) {
          return json({ error: 'invalid_grant' }, 400);
        }
        const now = Math.floor(Date.now() / 1000);
        const word = this.signed({
          iss: this.url,
          sub: `id of ${grant.subject}`,
          aud: CLIENT,
          iat: now,
          exp: now + 300,
          nonce: grant.nonce,
          preferred_username: grant.subject,
        });
        return json({ access_token: 'unused', token_type: 'Bearer', id_token: word });
      }
      default:
        return [204, 'text/plain', ''];
    }
  }

  private signed(claims: object): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const text = `${part({ alg: 'RS256', kid: 'one' })}.${part(claims)}`;
    const mark = sign('RSA-SHA256', Buffer.from(text), this.keys.privateKey);
    return `${text}.${mark.toString('base64url')}`;
  }
}
