package testkit_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// failing is a test that notes how it failed, and ends there if it can't go on.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper() {}
func (f *failing) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
func (f *failing) Fatal(args ...any) {
	f.text = fmt.Sprint(args...)
	runtime.Goexit()
}
func (f *failing) Errorf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }

// TestEventually asks until the answer is yes, and ends a test that it never is for.
func TestEventually(t *testing.T) {
	asked := 0
	testkit.Eventually(t, time.Minute, "it was asked three times", func() bool { asked++; return asked == 3 })
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
	f := &failing{TB: t}
	went := make(chan bool, 1)
	go func() {
		defer close(went)
		testkit.Eventually(f, time.Nanosecond, "pigs fly", func() bool { return false })
		went <- true
	}()
	if <-went || !strings.HasSuffix(f.text, "in vain until pigs fly") {
		t.Errorf("it went on, or failed with %q", f.text)
	}
}
