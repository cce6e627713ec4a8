// Browser tests against the real program: each test starts its own `atelier serve` on an empty
// folder (fixtures.ts), so tests share nothing and their order means nothing.
import { defineConfig } from '@playwright/test';

const launchOptions = {
  // Debian's browser; Playwright's own is never downloaded.
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  // --no-sandbox: as root, which CI is, Chromium does not start otherwise. The rest keeps the
  // browser from talking to anybody but the server under test.
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
};

export default defineConfig({
  testDir: 'tests',
  // One after another: a server that makes an image takes all cores there are.
  workers: 1,
  fullyParallel: false,
  forbidOnly: !!process.env.CI,
  // A test that passes at the second try has found something; it must not pass.
  retries: 0,
  timeout: 120_000,
  expect: { timeout: 15_000 },
  reporter: [['list']],
  outputDir: 'test-results',
  use: {
    browserName: 'chromium',
    launchOptions,
    colorScheme: 'light',
    trace: 'retain-on-failure',
    screenshot: 'only-on-failure',
  },
  projects: [
    { name: 'desktop', use: { viewport: { width: 1440, height: 900 } } },
    {
      // What a small phone shows; only what people do on a phone is repeated there.
      name: 'phone',
      testMatch: ['path.spec.ts', 'layout.spec.ts', 'gallery.spec.ts', 'devices.spec.ts', 'access.spec.ts', 'accounts.spec.ts', 'studio.spec.ts', 'admin.spec.ts'],
      use: {
        viewport: { width: 360, height: 740 },
        deviceScaleFactor: 2,
        isMobile: true,
        hasTouch: true,
      },
    },
  ],
});
