// Devices as people see them: cards, checks, plots that move, what happened, the badge in the studio.
// A program stands for nvidia-smi and lists a GPU whose driver is missing: the server then works on
// the CPU and says why. Runs on a desktop and on a phone.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, open, setUp, type Server, test } from '../fixtures';
import type { Page } from '@playwright/test';

const GPU = 'NVIDIA GeForce RTX 5090';

/** Starts the server anew with a GPU that nvidia-smi lists and no driver drives. */
async function withUndrivenGpu(server: Server): Promise<void> {
  await server.stop();
  const folder = join(server.dataDir, 'machine');
  mkdirSync(folder, { recursive: true });
  // Whatever is asked for is answered column by column, as nvidia-smi does.
  const script = `#!/bin/sh
row=
for column in $(echo "$1" | sed 's/^--query-gpu=//; s/,/ /g'); do
  case $column in
    index) cell=0 ;;
    name) cell="${GPU}" ;;
    uuid) cell=GPU-5090 ;;
    pci.bus_id) cell=00000000:01:00.0 ;;
    compute_cap) cell=12.0 ;;
    memory.total) cell=32607 ;;
    memory.used) cell=2048 ;;
    memory.free) cell=30559 ;;
    driver_version) cell=580.65.06 ;;
    utilization.gpu) cell=12 ;;
    temperature.gpu) cell=44 ;;
    power.draw) cell=88.10 ;;
    *) cell="[N/A]" ;;
  esac
  row="$row, $cell"
done
echo "\${row#, }"
`;
  writeFileSync(join(folder, 'nvidia-smi'), script);
  chmodSync(join(folder, 'nvidia-smi'), 0o755);
  server.settings.PATH = `${folder}:${process.env.PATH}`;
  await server.start();
}

function card(page: Page, name: RegExp | string) {
  return page.getByRole('article', { name });
}

test('a card says where a device stands, with every check', async ({ page, server }) => {
  await setUp(page, server);
  await open(page, '/admin');
  const cpu = page.locator('article.device').first();
  await expect(cpu.locator('.device-state')).toContainText('In use');
  await expect(cpu.locator('.device-state time')).toHaveAttribute('title', /\d/);
  // All is well, so the checks are folded; they open by keyboard and show their numbers.
  const checks = cpu.locator('details.check-group').first();
  await expect(checks.locator('summary')).toContainText(/all \d+ checks passed/);
  await expect(checks.getByRole('table')).toBeHidden();
  await checks.locator('summary').focus();
  await page.keyboard.press('Enter');
  await expect(checks.getByRole('row', { name: /conv2d/ }).first()).toContainText('passed');
  expect(await checks.getByRole('row').count()).toBeGreaterThan(10);
  // What the reader opened stays open while the page renews itself.
  await page.waitForResponse((answer) => answer.url().includes('load_devices'));
  await expect(checks.getByRole('table')).toBeVisible();
});

test('a device is tested again, and the timeline says so', async ({ page, server }) => {
  await setUp(page, server);
  await open(page, '/admin');
  const events = page.locator('.timeline > .event');
  await expect(events.first()).toContainText(/ago|just now/);
  await expect(events.first().locator('time')).toHaveAttribute('title', /\d/);
  const before = await page.locator('.event-head').count();
  const again = page.locator('article.device').first().getByRole('button', { name: /^Test again: / });
  // A probe may be over before anybody looks at its button: what it leaves behind is waited for.
  const answered = page.waitForResponse((answer) => answer.url().includes('test_devices_again'), { timeout: 90_000 });
  await again.click();
  expect((await answered).status()).toBe(200);
  await expect(again).toBeEnabled();
  await expect.poll(() => page.locator('.event-head').count()).toBeGreaterThan(before);
  await expect(events.first()).toContainText('Test');
});

test('numbers and plots renew themselves', async ({ page, server }) => {
  await setUp(page, server);
  await open(page, '/admin');
  const memory = page.locator('.vital').filter({ hasText: 'Memory' }).first();
  await expect(memory.locator('.vital-value')).toHaveText(/\d.*iB/);
  const line = memory.locator('.plot-line');
  const before = await line.getAttribute('d');
  await expect.poll(() => line.getAttribute('d'), { timeout: 20_000 }).not.toBe(before);
  await expect(memory.getByRole('img')).toHaveAttribute('aria-label', /Memory over the last 5 min: between/);
  await page.getByRole('link', { name: '1 hour' }).click();
  await expect(memory.getByRole('img')).toHaveAttribute('aria-label', /Memory over the last 60 min/);

  // An image draws the first point of the step times.
  await expect(page.getByText('The first image made here draws the first point.').first()).toBeVisible();
  await page.getByRole('link', { name: 'Studio', exact: true }).click();
  await describe(page, 'a red circle on a white background', { steps: 5 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({ timeout: 60_000 });
  await page.getByRole('link', { name: 'Admin', exact: true }).click();
  const steps = page.locator('article.device').first().locator('.vital').filter({ hasText: 'Step time' });
  await expect(steps.locator('.vital-value')).toHaveText(/\d+(\.\d+)? (ms|s)/);
});

test('a GPU without its driver is explained to everybody', async ({ page, server }) => {
  await setUp(page, server);
  await withUndrivenGpu(server);
  const health = await page.request.get('/healthz');
  expect(await health.text()).toMatch(/^degraded: cpu\n.*driver/);

  // In the studio, by keyboard alone; Escape shuts it again.
  await open(page, '/');
  const badge = page.locator('.device-status');
  const reason = badge.locator('.device-status-reason');
  await expect(badge).toContainText('CPU');
  await expect(reason).toBeHidden();
  await badge.locator('summary').focus();
  await page.keyboard.press('Enter');
  await expect(reason).toBeVisible();
  await expect(reason).toContainText('driver');
  await page.keyboard.press('Escape');
  await expect(reason).toBeHidden();
  // And by a press.
  await badge.locator('summary').click();
  await expect(reason).toBeVisible();

  // On the device page: the GPU's own card, with the error, what to do, and its own numbers.
  await open(page, '/admin');
  await expect(page.locator('.decision')).toContainText('Running on the CPU, because');
  const gpu = card(page, GPU);
  await expect(gpu.locator('.device-state')).toContainText('Not usable');
  await expect(gpu).toContainText('libcuda.so.1');
  await expect(gpu.locator('.remedy').first()).toContainText('What to do:');
  await expect(gpu.locator('.vital').filter({ hasText: 'Memory' })).toContainText('2.0 GiB of 31.8 GiB');

  // An image keeps the reason.
  await open(page, '/');
  await describe(page, 'a blue square on a white background', { steps: 4 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.getByRole('link', { name: "Open the image's page" }).click({ timeout: 60_000 });
  await expect(page.locator('dt:text-is("Device") + dd')).toHaveText('CPU · f32');
  await expect(page.locator('dt:text-is("Why not the GPU") + dd')).toContainText('driver');
  await expect(page.locator('.timing .legend')).toContainText('Denoising');
});

test('an administrator chooses, and it is kept', async ({ page, server }) => {
  await setUp(page, server);
  await open(page, '/admin');
  await page.locator('#choice-device').selectOption('cpu');
  await page.getByLabel('Idle models leave memory').selectOption({ label: 'Never' });
  await page.getByRole('button', { name: 'Keep and test' }).click();
  await expect(page.getByText('Kept. The decision above follows from it.')).toBeVisible({ timeout: 90_000 });
  await open(page, '/admin');
  await expect(page.locator('#choice-device')).toHaveValue('cpu');
  await expect(page.getByLabel('Idle models leave memory')).toHaveValue('0');
  await expect(page.locator('.event').filter({ hasText: 'Choice' }).first()).toBeVisible();
});
