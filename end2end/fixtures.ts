// What every browser test stands on: a real server of its own, and a watch that fails the test on
// anything the browser or the server complains about.
import { test as base, expect, type BrowserContext, type Page } from '@playwright/test';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const binary = resolve(process.env.ATELIER_BIN ?? '../target/release/atelier');
const siteRoot = resolve(process.env.ATELIER_SITE_ROOT ?? '../target/site');

/** A password that the server accepts; tests are about something else. */
export const PASSWORD = 'a lamp beside the window';

/** Everything a test's page or server said that it should not have said. */
export class Troubles {
  readonly seen: string[] = [];
  private allowed: RegExp[] = [];

  /** Says that this test provokes a message: the browser logs every answer of 400 and above. */
  allow(message: RegExp) {
    this.allowed.push(message);
  }

  add(message: string) {
    this.seen.push(message);
  }

  unexpected(): string[] {
    return this.seen.filter((message) => !this.allowed.some((allowed) => allowed.test(message)));
  }
}

/** `atelier serve` on a folder and a port of its own. */
export class Server {
  url = '';
  setupCode = '';
  output = '';
  /** Settings besides the usual ones, from the next start on. */
  readonly settings: Record<string, string> = {};
  private child: ChildProcess | undefined;

  constructor(
    private readonly troubles: Troubles,
    readonly dataDir = mkdtempSync(join(tmpdir(), 'atelier-end2end-')),
  ) {}

  /** Starts it and waits for the line that says where it listens. */
  async start(): Promise<void> {
    for (const needed of [binary, join(siteRoot, 'pkg', 'atelier.js')]) {
      if (!existsSync(needed)) throw new Error(`${needed} does not exist: run \`make build\` first`);
    }
    const address = this.url ? new URL(this.url).host : '127.0.0.1:0';
    const child = spawn(
      binary,
      ['serve', '--data-dir', this.dataDir, '--addr', address, '--site-root', siteRoot],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...environment(), ...this.settings } },
    );
    this.child = child;
    let said = '';
    await new Promise<void>((ready, failed) => {
      const late = setTimeout(() => failed(new Error(`no address within 60 s:\n${said}`)), 60_000);
      const listen = (chunk: Buffer) => {
        said += chunk;
        this.output += chunk;
        const code = /^Setup code: (\S+)/m.exec(said);
        if (code) this.setupCode = code[1];
        const address = /(http:\/\/127\.0\.0\.1:\d+)\s/.exec(said);
        if (address && /ready/.test(said)) {
          this.url = address[1];
          clearTimeout(late);
          ready();
        }
      };
      child.stdout!.on('data', listen);
      child.stderr!.on('data', listen);
      child.on('exit', (code) => {
        clearTimeout(late);
        failed(new Error(`atelier serve ended with ${code}:\n${said}`));
      });
    });
  }

  /** Stops it as a service manager would, and waits until it is gone. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.child;
    this.child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((gone) => {
      const stuck = setTimeout(() => {
        this.troubles.add('atelier serve did not stop within 20 s of SIGTERM');
        child.kill('SIGKILL');
      }, 20_000);
      child.on('exit', () => {
        clearTimeout(stuck);
        gone();
      });
      child.kill(signal);
    });
  }

  /** Makes a user through the command line, as an administrator on the machine would. */
  addUser(name: string, role: 'admin' | 'member' | 'viewer' = 'member'): void {
    const made = spawnSync(
      binary,
      ['user', '--data-dir', this.dataDir, 'add', name, '--role', role],
      { input: `${PASSWORD}\n`, encoding: 'utf8', env: environment() },
    );
    if (made.status !== 0) throw new Error(`atelier user add: ${made.stderr}`);
  }

  /** Lines of the log that no test should cause. */
  complaints(): string[] {
    // Colours are escape codes; they would hide the words.
    const plain = this.output.replace(/\u001b\[[0-9;]*m/g, '');
    return plain
      .split('\n')
      .filter((line) => /panicked at|\bERROR\b|content security policy/.test(line))
      .map((line) => `server log: ${line.trim()}`);
  }

  remove(): void {
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

/** The environment without settings of the person who runs the tests. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('ATELIER_'));
  return { ...Object.fromEntries(kept), NO_COLOR: '1' };
}

/** Hears what the pages of a browser context complain about. */
async function watch(context: BrowserContext, troubles: Troubles): Promise<void> {
  context.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') {
      troubles.add(`console ${message.type()}: ${message.text()} (${message.location().url})`);
    }
  });
  context.on('weberror', (error) => troubles.add(`page error: ${error.error().message}`));
  // A violation is not always written to the console.
  await context.exposeFunction('__violated', (what: string) => troubles.add(`CSP: ${what}`));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      const told = (window as unknown as { __violated: (what: string) => void }).__violated;
      told(`${event.effectiveDirective} blocked ${event.blockedURI} on ${event.documentURI}`);
    });
  });
}

interface Fixtures {
  troubles: Troubles;
  server: Server;
  /** Another browser, for another person. */
  anotherPage: () => Promise<Page>;
}

export const test = base.extend<Fixtures>({
  troubles: [
    // eslint-disable-next-line no-empty-pattern
    async ({}, use) => {
      const troubles = new Troubles();
      await use(troubles);
      expect(troubles.unexpected(), 'nothing complained').toEqual([]);
    },
    { auto: true },
  ],

  server: async ({ troubles }, use, info) => {
    const server = new Server(troubles);
    try {
      await server.start();
      await use(server);
      await server.stop();
    } finally {
      await server.stop('SIGKILL');
      if (info.status !== info.expectedStatus) {
        await info.attach('server log', { body: server.output, contentType: 'text/plain' });
      }
      server.remove();
    }
    for (const complaint of server.complaints()) troubles.add(complaint);
  },

  baseURL: async ({ server }, use) => {
    await use(server.url);
  },

  context: async ({ context, troubles }, use) => {
    await watch(context, troubles);
    await use(context);
  },

  anotherPage: async ({ browser, server, troubles }, use) => {
    const opened: BrowserContext[] = [];
    await use(async () => {
      const context = await browser.newContext({ baseURL: server.url });
      opened.push(context);
      await watch(context, troubles);
      return context.newPage();
    });
    for (const context of opened) await context.close();
  },
});

export { expect };

/** Waits until the page answers to clicks: the app marks the document once it has taken it over. */
export async function hydrated(page: Page): Promise<void> {
  await expect(page.locator('html')).toHaveAttribute('data-hydrated', '', { timeout: 30_000 });
}

/** Opens a page of the site and waits until it is alive. */
export async function open(page: Page, path: string): Promise<void> {
  await page.goto(path);
  await hydrated(page);
}

/** Makes the first administrator of an empty server, through the page. */
export async function setUp(page: Page, server: Server, name = 'ada'): Promise<void> {
  await open(page, '/setup');
  await page.getByLabel('Setup code').fill(server.setupCode);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Make the administrator' }).click();
  await expect(page.getByRole('button', { name: 'Generate' })).toBeVisible();
  await hydrated(page);
}

/** Signs in, through the page. */
export async function signIn(page: Page, name: string, password = PASSWORD): Promise<void> {
  await open(page, '/sign-in');
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('button', { name: 'Generate' })).toBeVisible();
  await hydrated(page);
}

/** Signs out, through the menu. */
export async function signOut(page: Page): Promise<void> {
  await page.locator('#user-menu > summary').click();
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
}

/** Opens the folded settings of the studio, if they are not open. */
export async function openAdvanced(page: Page): Promise<void> {
  const fold = page.locator('#advanced');
  if ((await fold.getAttribute('open')) === null) await fold.locator('summary').click();
  await expect(page.getByLabel('Steps')).toBeVisible();
}

/** Fills the studio's form in. */
export async function describe(
  page: Page,
  prompt: string,
  settings: { steps?: number; seed?: number } = {},
): Promise<void> {
  await page.getByLabel('Prompt', { exact: true }).fill(prompt);
  if (settings.steps !== undefined || settings.seed !== undefined) await openAdvanced(page);
  if (settings.steps !== undefined) await page.getByLabel('Steps').fill(String(settings.steps));
  if (settings.seed !== undefined) {
    await page.getByRole('textbox', { name: 'Seed' }).fill(String(settings.seed));
  }
}

/** Makes images through the API, with the session of the page; answers their ids. */
export async function makeImages(page: Page, prompts: string[], steps = 8): Promise<string[]> {
  const ids: string[] = [];
  for (const [place, prompt] of prompts.entries()) {
    const answer = await page.request.post('/api/generate-image', {
      data: { prompt, num_inference_steps: steps, seed: place + 1 },
      headers: { accept: 'application/json' },
      timeout: 60_000,
    });
    expect(answer.status(), await answer.text()).toBe(200);
    ids.push(answer.headers()['x-atelier-image-id']);
  }
  return ids;
}
