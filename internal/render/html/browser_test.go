package html_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestHTMLInBrowser shows reports in Chromium, one for all that is asked of them.
func TestHTMLInBrowser(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	ctx := startBrowser(t)
	for name, test := range map[string]func(context.Context, *testing.T){
		"screens": screens, "names": names, "copies": copies, "keyboard": keyboard, "paper": paper,
		"without script": withoutScript, "behind a server": behindAServer,
	} {
		t.Run(name, func(t *testing.T) { test(ctx, t) })
	}
}

// startBrowser starts Chromium with a new profile, and ends it with the test.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		testkit.Missing(t, "Chromium is not installed: scripts/setup.sh --all installs it")
	}
	profile, err := os.MkdirTemp("", "pgmedic-chromium-") //nolint:usetesting // t.TempDir fails while the browser's children still write
	if err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.WSURLReadTimeout(time.Minute),
	}
	ctx, end := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		closeBrowser()
		end()
		// The browser's own children may still be writing when it has ended.
		testkit.Eventually(t, time.Minute, "the browser no longer writes into "+profile, func() bool { return os.RemoveAll(profile) == nil })
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// tab is one page in the browser, and what it complained of and asked for.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requests   []string
}

// open shows a page. Before runs in the new tab before the page is fetched.
func open(ctx context.Context, t *testing.T, url string, before ...chromedp.Action) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, timedOut := context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(timedOut)
	b := &tab{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.note)
	b.run(network.Enable(), cdplog.Enable(), runtime.Enable())
	b.run(before...)
	b.run(chromedp.Navigate(url))
	return b
}

// note keeps what the browser says of the page.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		b.complaints = append(b.complaints, e.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, fmt.Sprintf("console.%s", e.Type))
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, "data:") {
			b.requests = append(b.requests, e.Request.URL)
		}
	}
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// quiet fails where the page complained, or asked for more than itself.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("the browser complains: %q", b.complaints)
	}
	if len(b.requests) != 1 {
		b.t.Errorf("the page is not one request: %q", b.requests)
	}
}

// eval runs a script in the page and returns what it comes to.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	var v T
	await := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	b.run(chromedp.Evaluate(script, &v, await))
	return v
}

// view sets the window's width and the reader's colour scheme.
func (b *tab) view(width int64, scheme string) {
	b.t.Helper()
	b.run(
		emulation.SetDeviceMetricsOverride(width, 900, 1, false),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}),
	)
}

// pageFile writes a page to a file and returns its URL.
func pageFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file://" + path
}

// screens looks at reports as readers do: on a telephone and on a large
// screen, by day and by night; at all of them under make test-all.
func screens(ctx context.Context, t *testing.T) {
	thorough := testkit.All()
	axe := axeCore(t)
	for name, r := range htmlReports(t) {
		if !thorough && name != "trended" && name != "recorded" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := open(ctx, t, pageFile(t, htmlOf(t, r)))
			b.run(chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => d.open = true)`, nil), chromedp.Evaluate(axe, nil))
			for _, width := range []int64{360, 768, 1440} {
				for _, scheme := range []string{"light", "dark"} {
					b.view(width, scheme)
					if n := eval[int64](b, `document.documentElement.scrollWidth`); n > width {
						t.Errorf("%d px wide and %s: the page is %d px wide", width, scheme, n)
					}
					// It takes seconds, for a long page half a minute.
					corner, large := width != 768 && (width == 360) == (scheme == "dark"), name == "huge" || name == "hostile"
					switch {
					case name == "trended" && !thorough && !corner, name != "trended" && (!thorough || !corner), large && width != 360:
						continue
					}
					b.accessible(width, scheme)
				}
			}
			b.quiet()
		})
	}
}

// accessible fails on what axe-core finds, the contrast of every text included.
func (b *tab) accessible(width int64, scheme string) {
	b.t.Helper()
	problems := eval[[]string](b, `axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"], preload: false,
	}).then(r => r.violations.flatMap(v => v.nodes.slice(0, 3).map(n =>
		v.id + ": " + n.html.slice(0, 160) + " " + n.any.concat(n.all, n.none).map(c => c.message).join("; "))))`)
	for _, p := range problems {
		b.t.Errorf("%d px wide and %s: %s", width, scheme, p)
	}
}

// axeCore is the script of axe-core that scripts/setup.sh --all fetches, or
// nothing where it did not and nobody insists.
func axeCore(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(scratchtest.CacheDir(), "axe-core", "axe.min.js"))
	if err == nil {
		return string(text)
	}
	if testkit.All() {
		t.Fatalf("axe-core is not there, and PGMEDIC_TEST_ALL=1 wants it: run scripts/setup.sh --all: %v", err)
	}
	t.Log("axe-core is not there: accessibility is not checked; scripts/setup.sh --all fetches it")
	return `var axe = {run: () => Promise.resolve({violations: []})}`
}

// names plants names that would be markup or script.
func names(ctx context.Context, t *testing.T) {
	b := open(ctx, t, pageFile(t, htmlOf(t, hostile())))
	got := eval[string](b, `["script", "style", "h1", "img", "iframe", "[onerror]", "[onmouseover]", "[style]", "a[href^=javascript]"]
		.map(s => document.querySelectorAll(s).length).join(" ") + " " + document.title.includes("owned</")`)
	// The first of the names in the title begins with what would end a script.
	if want := "1 1 1 0 0 0 0 0 0 false"; got != want {
		t.Errorf("elements of the page: %s, want %s", got, want)
	}
	if title := eval[string](b, `document.title`); title == "owned" || title == "1" || !strings.HasPrefix(title, planted[0]) {
		t.Errorf("the title is %q", title)
	}
	b.quiet()
}

// copies presses the buttons beside the fixes, with a clipboard and
// without.
func copies(ctx context.Context, t *testing.T) {
	r := rendertest.ReportOn(rendertest.Busy())
	first := slices.IndexFunc(r.Findings, func(f pgmedic.Finding) bool { return f.Fix != "" })
	for name, prepare := range map[string]string{
		"clipboard":     `window.board = navigator.clipboard; true`,
		"old command":   `window.board = navigator.clipboard; Object.defineProperty(navigator, "clipboard", {value: undefined}); true`,
		"refused":       `window.board = navigator.clipboard; Object.defineProperty(navigator, "clipboard", {value: {writeText: () => Promise.reject(new Error("no"))}}); true`,
		"nothing works": `Object.defineProperty(navigator, "clipboard", {value: undefined}); document.execCommand = () => false; true`,
	} {
		t.Run(name, func(t *testing.T) {
			b := open(ctx, t, pageFile(t, htmlOf(t, r)), browser.GrantPermissions([]browser.PermissionType{
				browser.PermissionTypeClipboardReadWrite, browser.PermissionTypeClipboardSanitizedWrite,
			}))
			b.view(1440, "light")
			eval[bool](b, prepare)
			b.run(chromedp.Click(fmt.Sprintf("#finding-%d .copy", first+1), chromedp.ByQuery))
			var got string
			want, words := r.Findings[first].Fix, "The fix is copied"
			if name == "nothing works" {
				words = "The fix is selected: press Control or Command and C"
			}
			b.run(chromedp.Poll(`document.getElementById("said").textContent === `+quoteJS(words), nil))
			if name == "nothing works" {
				got = eval[string](b, `String(getSelection())`)
			} else {
				got = eval[string](b, `board.readText()`)
			}
			if got != want {
				t.Errorf("the clipboard has %q, want %q", got, want)
			}
			b.quiet()
		})
	}
}

func quoteJS(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// focused says in a few words what has the focus.
const focused = `(() => { const e = document.activeElement; return e.tagName + " " + (e.className || "") + " " + e.textContent.trim().slice(0, 40) })()`

// keyboard goes through the page with Tab and Enter alone.
func keyboard(ctx context.Context, t *testing.T) {
	b := open(ctx, t, pageFile(t, htmlOf(t, rendertest.ReportOn(rendertest.Busy()))))
	b.view(1440, "light")
	reach := func(what string, found func(string) bool) string {
		t.Helper()
		for range 400 {
			b.run(chromedp.KeyEvent(kb.Tab))
			if got := eval[string](b, focused); found(got) {
				return got
			}
		}
		t.Fatalf("Tab doesn't reach %s", what)
		return ""
	}
	if got := reach("anything", func(string) bool { return true }); !strings.HasPrefix(got, "A skip") {
		t.Fatalf("the first stop is %q, and not the skip link", got)
	}
	if !eval[bool](b, `document.activeElement.getBoundingClientRect().top >= 0`) {
		t.Error("the skip link that has the focus can't be seen")
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	if hash := eval[string](b, `location.hash + " " + document.activeElement.id`); hash != "#findings findings" {
		t.Errorf("the skip link leads to %q", hash)
	}
	reach("a filter", func(s string) bool { return strings.HasPrefix(s, "BUTTON") && strings.Contains(s, "warning") })
	b.run(chromedp.KeyEvent(kb.Enter))
	shown := `[...document.querySelectorAll(".finding")].filter(f => f.checkVisibility()).map(f => f.querySelector(".sev").textContent)`
	if got := eval[[]string](b, shown); len(got) == 0 || slices.ContainsFunc(got, func(s string) bool { return s != "warning" }) {
		t.Errorf("with the filter on warnings there are %q", got)
	}
	if got := eval[string](b, `document.querySelector("[aria-pressed=true]").dataset.show`); got != "warn" {
		t.Errorf("the pressed filter is %q", got)
	}
	reach("a button that copies", func(s string) bool { return strings.HasPrefix(s, "BUTTON copy") })
	b.run(chromedp.KeyEvent(kb.Enter), chromedp.Poll(`document.activeElement.textContent !== "Copy"`, nil))
	reach("an explanation", func(s string) bool { return strings.HasPrefix(s, "SUMMARY") && strings.Contains(s, "What this means") })
	b.run(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, `document.activeElement.parentElement.open`) {
		t.Error("Enter doesn't open the explanation")
	}
	// A link to a finding that is filtered away brings it back.
	b.run(chromedp.Evaluate(`document.querySelector(".badge[href]").focus()`, nil), chromedp.KeyEvent(kb.Enter))
	b.run(chromedp.Poll(`document.querySelector(":target").checkVisibility()`, nil))
	b.quiet()
}

// paper prints a report with everything folded, from a dark screen.
func paper(ctx context.Context, t *testing.T) {
	r := rendertest.ReportOn(huge())
	r.Trends = growing()
	b := open(ctx, t, pageFile(t, htmlOf(t, r)))
	b.run(emulation.SetEmulatedMedia().WithMedia("print").WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	eval[bool](b, `dispatchEvent(new Event("beforeprint"))`)
	if lost := eval[[]string](b, `[...document.querySelectorAll(".finding, .section h2, .explain p, pre")].filter(e => !e.checkVisibility({contentVisibilityAuto: true}) || e.getBoundingClientRect().height === 0).map(e => e.outerHTML.slice(0, 80))`); len(lost) > 0 {
		t.Errorf("%d things are not on paper, the first %s", len(lost), lost[0])
	}
	if colours := eval[string](b, `getComputedStyle(document.body).backgroundColor + " " + getComputedStyle(document.querySelector(".finding")).backgroundColor`); colours != "rgb(255, 255, 255) rgb(255, 255, 255)" {
		t.Errorf("the paper is %s", colours)
	}
	eval[bool](b, `dispatchEvent(new Event("afterprint"))`)
	if n := eval[int](b, `document.querySelectorAll("details[open]").length`); n > 0 {
		t.Errorf("%d details are still open after printing", n)
	}
	var pdf []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = page.PrintToPDF().WithPreferCSSPageSize(true).WithPrintBackground(true).WithGenerateTaggedPDF(true).WithGenerateDocumentOutline(true).Do(ctx)
		return err
	}))
	if pages := strings.Count(string(pdf), "/Type /Page\n"); pages < 3 || pages > 200 {
		t.Errorf("%d pages", pages)
	}
	// The outline has the headings, and each finding's is its sentence.
	for _, f := range r.Findings[:3] {
		if !strings.Contains(string(pdf), f.Summary[:min(len(f.Summary), 30)]) {
			t.Errorf("%q is not in the printed report", f.Summary)
		}
	}
	b.quiet()
}

// withoutScript: the page is complete, and what needs the script is not
// offered.
func withoutScript(ctx context.Context, t *testing.T) {
	r := rendertest.ReportOn(rendertest.Busy())
	b := open(ctx, t, pageFile(t, htmlOf(t, r)), emulation.SetScriptExecutionDisabled(true))
	b.run(emulation.SetScriptExecutionDisabled(false))
	if n := eval[int](b, `[...document.querySelectorAll(".finding")].filter(f => f.checkVisibility()).length`); n != len(r.Findings) {
		t.Errorf("%d findings are shown of %d", n, len(r.Findings))
	}
	if n := eval[int](b, `[...document.querySelectorAll("button")].filter(f => f.checkVisibility()).length`); n > 0 {
		t.Errorf("%d buttons are shown that can't work", n)
	}
	b.quiet()
}

// behindAServer serves the page with policies of the server's own.
func behindAServer(ctx context.Context, t *testing.T) {
	text := htmlOf(t, rendertest.ReportOn(rendertest.Busy()))
	_, policy, _ := strings.Cut(text, `Content-Security-Policy" content="`)
	policy, _, _ = strings.Cut(policy, `"`)
	for name, header := range map[string]string{"none": "", "the page's": strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(policy)} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				if header != "" {
					w.Header().Set("Content-Security-Policy", header)
				}
				_, _ = w.Write([]byte(text))
			}))
			t.Cleanup(server.Close)
			b := open(ctx, t, server.URL)
			if got := eval[string](b, `getComputedStyle(document.querySelector(".tiles")).display + document.querySelectorAll(".copy[hidden]").length`); got != "grid0" {
				t.Errorf("the style or the script has no effect: %s", got)
			}
			b.quiet()
		})
	}
}
