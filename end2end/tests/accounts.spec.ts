// Accounts as people use them: what a token may do, a second step, resets, leaving, looks into others'
// images, signing in through a provider. Coming in is in people.spec.ts.
import { createHmac } from 'node:crypto';
import type { Page } from '@playwright/test';
import { describe, expect, hydrated, open, PASSWORD, setUp, signIn, signOut, test } from '../fixtures';
import { Provider } from '../provider';

const NEW_PASSWORD = 'violet tractor hums at noon';

/** Makes an image in the studio and waits for it. */
async function makeImage(page: Page, prompt: string): Promise<void> {
  await describe(page, prompt, { steps: 4 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 90_000,
  });
}

/** Leaves the studio, which still asks about its prompt, and signs out. */
async function leave(page: Page): Promise<void> {
  await open(page, '/account');
  await signOut(page);
}

/** The page about somebody, from the list of people. */
async function openPerson(page: Page, name: string): Promise<void> {
  await open(page, '/admin/people');
  await page.getByRole('rowheader', { name, exact: true }).getByRole('link').click();
  await expect(page.getByRole('heading', { name, level: 1 })).toBeVisible();
  await hydrated(page);
}

test('a token does what was ticked, and is told what it lacks', async ({
  page,
  server,
  request,
  troubles,
}) => {
  troubles.allow(/console error: Failed to load resource: .* 422/);
  await setUp(page, server);
  await open(page, '/account');
  const make = async (name: string, ticked: string[]): Promise<string> => {
    await page.getByLabel('Name of the new token').fill(name);
    for (const box of ['make images', 'look at the gallery', 'change and delete in the gallery']) {
      await page.getByLabel(box).setChecked(ticked.includes(box));
    }
    await page.getByRole('button', { name: 'Make a token' }).click();
    const secret = page.locator('#token-secret');
    await expect(page.getByRole('button', { name: `Revoke the token ${name}` })).toBeVisible();
    return (await secret.textContent())!.trim();
  };
  const ask = async (method: string, path: string, token: string) => {
    const answer = await request.fetch(server.url + path, {
      method,
      headers: { authorization: `Bearer ${token}` },
      data: method === 'GET' ? undefined : {},
    });
    return { status: answer.status(), text: await answer.text() };
  };
  const reads = await make('reader', ['look at the gallery']);
  expect((await ask('GET', '/api/images', reads)).status).toBe(200);
  const refused = await ask('POST', '/api/generate-image', reads);
  expect(refused.status).toBe(403);
  expect(refused.text).toContain('it needs the scope `generate`');
  await expect(page.getByText(/· read/)).toBeVisible();

  const makes = await make('maker', ['make images']);
  expect((await ask('GET', '/api/images', makes)).text).toContain('`read`');
  expect((await ask('GET', '/api/models', makes)).status).toBe(200);

  // A token that may nothing is none.
  await page.getByLabel('Name of the new token').fill('useless');
  await page.getByLabel('make images').setChecked(false);
  await page.getByLabel('look at the gallery').setChecked(false);
  await page.getByRole('button', { name: 'Make a token' }).click();
  await expect(page.getByText('Choose at least one thing that the token may do.')).toBeVisible();

  await page.getByRole('button', { name: 'Revoke the token reader' }).click();
  await expect(page.getByRole('button', { name: 'Revoke the token reader' })).toHaveCount(0);
  expect((await ask('GET', '/api/images', reads)).status).toBe(401);
});

test('all other browsers are signed out with one press', async ({ page, server, anotherPage, troubles }) => {
  // The studio of a browser that was signed out meanwhile may still ask something.
  troubles.allow(/console error: Failed to load resource: .* 401/);
  await setUp(page, server);
  const other = await anotherPage();
  await signIn(other, 'ada');
  await open(page, '/account');
  await page.getByRole('button', { name: 'Sign out all others' }).click();
  await expect(page.getByRole('button', { name: 'Sign out all others' })).toHaveCount(0);
  await other.goto('/account');
  await expect(other.getByRole('heading', { name: 'Sign in' })).toBeVisible();
});

/** The code that an authenticator app shows for a secret (RFC 6238). */
function codeAt(secret: string, step: number): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret].map((c) => letters.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const digest = createHmac('sha1', key).update(counter).digest();
  const at = digest[19] & 15;
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

test('two-step sign-in is set up, asked for, gone around with a recovery code, and switched off', async ({
  page,
  server,
  troubles,
  anotherPage,
}) => {
  troubles.allow(/console error: Failed to load resource: .* 422/);
  await setUp(page, server);
  server.addUser('bob');
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  await open(bobs, '/account');
  const begin = bobs.locator('#two-step-password');
  await begin.fill('not his password');
  await bobs.getByRole('button', { name: 'Set it up' }).click();
  await expect(bobs.getByText('This is not your password.')).toBeVisible();
  await begin.fill(PASSWORD);
  await bobs.getByRole('button', { name: 'Set it up' }).click();
  await expect(bobs.getByRole('img', { name: /QR code/ })).toBeVisible();
  const secret = (await bobs.locator('#two-step-secret').textContent())!.replaceAll(' ', '');
  // The code of the step after this one is unused then, and is taken from now on.
  const used = Math.floor(Date.now() / 30_000);
  await bobs.getByLabel('Code that the app shows').fill(codeAt(secret, used));
  await bobs.getByRole('button', { name: 'Switch it on' }).click();
  await expect(bobs.locator('#recovery-codes code')).toHaveCount(10);
  const codes = await bobs.locator('#recovery-codes code').allTextContents();
  await expect(bobs.getByText('10 recovery codes are left.')).toBeVisible();

  await leave(bobs);
  const password = async () => {
    await open(bobs, '/sign-in');
    await bobs.getByLabel('Name').fill('bob');
    await bobs.getByLabel('Password').fill(PASSWORD);
    await bobs.getByRole('button', { name: 'Sign in' }).click();
    await expect(bobs.getByRole('heading', { name: 'One more step' })).toBeVisible();
    await hydrated(bobs);
  };
  await password();
  await bobs.getByLabel('Code').fill(codeAt(secret, used));
  await bobs.getByRole('button', { name: 'Sign in' }).click();
  await expect(bobs.getByText('wrong or was used already')).toBeVisible();
  await bobs.getByLabel('Code').fill(codeAt(secret, used + 1));
  await bobs.getByRole('button', { name: 'Sign in' }).click();
  await expect(bobs.getByRole('button', { name: 'Generate' })).toBeVisible();
  await hydrated(bobs);

  await leave(bobs);
  await password();
  await bobs.getByLabel('Code').fill(codes[0].toLowerCase());
  await bobs.getByRole('button', { name: 'Sign in' }).click();
  await expect(bobs.getByRole('button', { name: 'Generate' })).toBeVisible();
  await hydrated(bobs);
  await leave(bobs);

  // He has lost both.
  await openPerson(page, 'bob');
  await page.getByRole('button', { name: 'Switch two-step sign-in off' }).click();
  await expect(page.getByRole('button', { name: 'Switch two-step sign-in off' })).toHaveCount(0);
  await signIn(bobs, 'bob');
});

test('an administrator resets a password with a link and sees it in the audit log', async ({
  page,
  server,
  anotherPage,
}) => {
  await setUp(page, server);
  server.addUser('bob');
  await openPerson(page, 'bob');
  await page.getByRole('button', { name: 'Make a reset link' }).click();
  const link = (await page.locator('#secret-link').textContent())!;
  expect(link).toContain(`${server.url}/reset/`);

  const bobs = await anotherPage();
  await bobs.goto(link);
  await hydrated(bobs);
  await bobs.getByLabel('New password').fill(NEW_PASSWORD);
  await bobs.getByRole('button', { name: 'Set the password' }).click();
  await expect(bobs.getByText('The new password is set.')).toBeVisible();
  await signIn(bobs, 'bob', NEW_PASSWORD);

  await open(page, '/admin/audit');
  const row = page.getByRole('row', { name: /user\.reset/ });
  await expect(row).toContainText('ada');
  await expect(row).toContainText('bob');
  await page.getByLabel('About').selectOption('model');
  await page.getByRole('button', { name: 'Filter' }).click();
  await expect(page.getByText('Nothing was done that fits.')).toBeVisible();
  await expect(page).toHaveURL(/act=model/);
});

test('a look into another gallery is allowed first and written down; leaving hands images over', async ({
  page,
  server,
  anotherPage,
}) => {
  await setUp(page, server);
  server.addUser('bob');
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  const prompt = 'a purple triangle on a yellow background';
  await makeImage(bobs, prompt);
  await open(bobs, '/account');
  const download = bobs.waitForEvent('download');
  await bobs.getByRole('link', { name: 'Download everything' }).click();
  expect((await download).suggestedFilename()).toBe('atelier.zip');
  // His browser leaves the stream of the server before he is gone.
  await bobs.close();

  await openPerson(page, 'bob');
  await expect(page.getByRole('link', { name: 'Look at them' })).toHaveCount(0);
  await open(page, '/admin/people');
  await page.getByRole('button', { name: "Allow looks into others' images" }).click();
  await expect(page.getByRole('button', { name: "Forbid looks into others' images" })).toBeVisible();
  await openPerson(page, 'bob');
  await page.getByRole('link', { name: 'Look at them' }).click();
  await expect(page.getByRole('img', { name: prompt })).toBeVisible();
  await expect(page.getByText('That you did is in the audit log.')).toBeVisible();
  await open(page, '/admin/audit?act=image');
  await expect(page.getByRole('row', { name: /image\.look/ })).toContainText('bob');

  await openPerson(page, 'bob');
  await page.getByText('Hand their images over and remove the user').click();
  await page.getByLabel('Who takes the images over').selectOption('ada');
  await page.getByRole('button', { name: 'Hand over and remove' }).click();
  await expect(page).toHaveURL(/\/admin\/people$/);
  await expect(page.getByRole('rowheader', { name: 'bob' })).toHaveCount(0);
  await open(page, '/gallery');
  await expect(page.getByRole('img', { name: prompt })).toBeVisible();
});

test('somebody is erased with everything of theirs', async ({ page, server, anotherPage }) => {
  await setUp(page, server);
  server.addUser('bob');
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  await makeImage(bobs, 'a blue circle on a white background');
  await bobs.close();
  await openPerson(page, 'bob');
  await page.getByText('Erase their images and remove the user').click();
  await page.getByRole('button', { name: 'Erase 1 image and remove bob' }).click();
  await expect(page).toHaveURL(/\/admin\/people$/);
  await expect(page.getByRole('rowheader', { name: 'bob' })).toHaveCount(0);
  await open(page, '/admin/audit?act=user');
  await expect(page.getByRole('row', { name: /user\.delete/ })).toContainText('bob');
});

test('a name is changed, and signed in with', async ({ page, server, anotherPage, troubles }) => {
  troubles.allow(/console error: Failed to load resource: .* 422/);
  await setUp(page, server);
  server.addUser('bob');
  await open(page, '/account');
  await page.getByLabel('Sign-in name').fill('bob');
  await page.getByRole('button', { name: 'Change name' }).click();
  await expect(page.getByText('There is a user "bob" already.')).toBeVisible();
  await page.getByLabel('Sign-in name').fill('ada lovelace');
  await page.getByRole('button', { name: 'Change name' }).click();
  await expect(page.getByText('Signed in as ada lovelace')).toBeVisible();
  await signIn(await anotherPage(), 'ada lovelace');
});

test('people sign in through a provider, connect their account and disconnect it', async ({
  page,
  server,
  anotherPage,
}) => {
  const provider = new Provider(['grace', 'ada of the lab']);
  await provider.start();
  try {
    await setUp(page, server);
    Object.assign(server.settings, provider.settings(), { ATELIER_PUBLIC_URL: server.url });
    // No page asks while the server is away.
    await page.goto('about:blank');
    await server.stop();
    await server.start();

    // Nobody here knows grace, and strangers are not let in.
    const graces = await anotherPage();
    const throughTheLab = async (who: string) => {
      await open(graces, '/sign-in');
      await graces.getByRole('link', { name: 'Sign in with the lab' }).click();
      await graces.getByRole('link', { name: `I am ${who}` }).click();
    };
    await throughTheLab('grace');
    await expect(graces.getByText('Nobody here is known by that account.')).toBeVisible();

    // Ada connects her account, and comes in elsewhere without a password.
    await open(page, '/account');
    await page.getByRole('link', { name: 'Connect the lab' }).click();
    await page.getByRole('link', { name: 'I am ada of the lab' }).click();
    await expect(page.getByText('You can sign in with the lab.')).toBeVisible();
    await throughTheLab('ada of the lab');
    await expect(graces.getByRole('button', { name: 'Generate' })).toBeVisible();
    await open(graces, '/account');
    await expect(graces.getByText('Signed in as ada')).toBeVisible();
    await signOut(graces);

    await hydrated(page);
    await page.getByRole('button', { name: 'Disconnect' }).click();
    await expect(page.getByRole('link', { name: 'Connect the lab' })).toBeVisible();
    await throughTheLab('ada of the lab');
    await expect(graces.getByText('Nobody here is known by that account.')).toBeVisible();

    // Where strangers are let in, grace is somebody of her own.
    server.settings.ATELIER_OIDC_NEWCOMERS = 'member';
    await graces.goto('about:blank');
    await page.goto('about:blank');
    await server.stop();
    await server.start();
    await throughTheLab('grace');
    await expect(graces.getByRole('button', { name: 'Generate' })).toBeVisible();
    await open(page, '/admin/people');
    await expect(page.getByRole('rowheader', { name: 'grace' })).toBeVisible();
  } finally {
    await provider.stop();
  }
});
