// Every page there is, in one list: what is looked at, photographed and measured follows it. A route that
// nobody lists here makes a test fail (tests/access.spec.ts).
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Browser, Page } from '@playwright/test';
import { describe, expect, makeImages, open, setUp, type Server } from './fixtures';

/** A server with people, images and everything else that pages can show. */
export interface House {
  images: string[];
  /** The path of a link that shows one image to anybody. */
  link: string;
  /** The path of an invitation. */
  invitation: string;
  /** Somebody's id. */
  person: string;
}

/** One page of the site. */
export interface Listed {
  /** As app/src/lib.rs has it. */
  route: string;
  /** What its pictures are called. */
  name: string;
  /** The address of the page in a furnished house. */
  path: (house: House) => string;
  /** Who looks at it: the administrator, or somebody who is not signed in. */
  as: 'admin' | 'nobody';
}

export const PAGES: Listed[] = [
  { route: '/', name: 'studio', path: () => '/', as: 'admin' },
  { route: '/gallery', name: 'gallery', path: () => '/gallery', as: 'admin' },
  { route: '/gallery/:id', name: 'image', path: ({ images }) => `/gallery/${images[0]}`, as: 'admin' },
  { route: '/collections', name: 'collections', path: () => '/collections', as: 'admin' },
  { route: '/compare', name: 'compare', path: ({ images }) => `/compare?a=${images[0]}&b=${images[1]}`, as: 'admin' },
  { route: '/s/:secret', name: 'shared', path: ({ link }) => link, as: 'nobody' },
  { route: '/trash', name: 'trash', path: () => '/trash', as: 'admin' },
  { route: '/account', name: 'account', path: () => '/account', as: 'admin' },
  { route: '/admin', name: 'admin', path: () => '/admin', as: 'admin' },
  { route: '/admin/models', name: 'models', path: () => '/admin/models', as: 'admin' },
  { route: '/admin/queue', name: 'queue', path: () => '/admin/queue', as: 'admin' },
  { route: '/admin/settings', name: 'settings', path: () => '/admin/settings', as: 'admin' },
  { route: '/admin/backups', name: 'backups', path: () => '/admin/backups', as: 'admin' },
  { route: '/admin/usage', name: 'usage', path: () => '/admin/usage', as: 'admin' },
  { route: '/admin/people', name: 'people', path: () => '/admin/people', as: 'admin' },
  { route: '/admin/people/:id', name: 'person', path: ({ person }) => `/admin/people/${person}`, as: 'admin' },
  { route: '/admin/people/:id/images', name: 'look', path: ({ person }) => `/admin/people/${person}/images`, as: 'admin' },
  { route: '/admin/audit', name: 'audit', path: () => '/admin/audit', as: 'admin' },
  { route: '/join/:code', name: 'join', path: ({ invitation }) => invitation, as: 'nobody' },
  // A code that was used, or never given.
  { route: '/reset/:code', name: 'reset', path: () => '/reset/no-such-code', as: 'nobody' },
  { route: '/sign-in/code', name: 'sign-in-code', path: () => '/sign-in/code', as: 'nobody' },
  { route: '/sign-up', name: 'sign-up', path: () => '/sign-up', as: 'nobody' },
  { route: '/sign-in', name: 'sign-in', path: () => '/sign-in', as: 'nobody' },
];

/** Shown only by a server that nobody has set up: tests open it before they furnish. */
export const SETUP_ROUTE = '/setup';

/** The routes that the interface has. */
export function routes(): string[] {
  const source = readFileSync(resolve(__dirname, '../app/src/lib.rs'), 'utf8');
  return [...source.matchAll(/<Route path=path!\("([^"]+)"\)/g)].map((found) => found[1]);
}

/** Fills a server with what its pages are there to show, as its administrator would. */
export async function furnish(page: Page, server: Server): Promise<House> {
  await setUp(page, server);
  server.addUser('bob');
  server.addUser('eve', 'viewer');
  const images = await makeImages(page, [
    'a red circle on a white background',
    'a blue square on a yellow background',
    'a green star on a black background',
    'an orange triangle on a grey background',
    'a purple diamond on a white background',
    'a yellow heart on a blue background',
    'a white cross on a red background',
    'a pink circle on a green background',
  ]);
  const ask = async (path: string, data: object): Promise<string> => {
    const answer = await page.request.post(path, { data });
    expect(answer.ok(), await answer.text()).toBe(true);
    return answer.text();
  };
  const collection = JSON.parse(await ask('/api/collections', { name: 'For the team', shared: true }));
  await ask('/api/images/act', { ids: images.slice(0, 5), act: { collect: collection.id } });
  await ask('/api/images/act', { ids: images.slice(0, 3), act: { favourite: true } });
  await ask('/api/images/act', { ids: images.slice(6), act: 'trash' });
  const link = /\/s\/[A-Za-z0-9_-]+/.exec(await ask(`/api/images/${images[0]}/shares`, { days: 7 }));
  expect(link, 'the link is in the answer').not.toBeNull();

  await open(page, '/admin/people');
  await page.getByRole('button', { name: 'Make a link' }).click();
  const invitation = page.locator('#secret-link');
  await expect(invitation).toBeVisible();
  const address = /\/join\/[A-Za-z0-9_-]+/.exec((await invitation.textContent()) ?? '');
  const person = await page.locator('a[href^="/admin/people/"]').first().getAttribute('href');
  return {
    images,
    link: link![0],
    invitation: address![0],
    person: person!.split('/').at(-1)!,
  };
}

/** Opens every page of a furnished house, one after another, and has it looked at. */
export async function tour(
  page: Page,
  browser: Browser,
  server: Server,
  house: House,
  look: (page: Page, name: string) => Promise<void>,
): Promise<void> {
  const size = page.viewportSize();
  const phone = await page.evaluate(() => matchMedia('(pointer: coarse)').matches);
  const context = await browser.newContext({
    baseURL: server.url,
    viewport: size,
    isMobile: phone,
    hasTouch: phone,
    deviceScaleFactor: phone ? 2 : 1,
  });
  const stranger = await context.newPage();
  for (const listed of PAGES) {
    const here = listed.as === 'admin' ? page : stranger;
    await open(here, listed.path(house));
    await look(here, listed.name);
  }
  await context.close();
  // And the studio at work.
  await open(page, '/');
  await describe(page, 'a silver ring on a dark blue background', { steps: 60, seed: 7 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.locator('.stage')).toBeVisible();
  await look(page, 'studio-working');
}
