package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// killedVariable names the variable by which a test runs itself as the program that is
// killed: its value is a killing, as JSON.
const killedVariable = "PGMEDIC_TEST_KILLED"

// killing is a run that is killed.
type killing struct {
	Channel notify.Channel
	Dir     string
	// Event is the id of what the run itself has to tell.
	Event string
	// Answered is after how many messages that were taken the run is killed: before it has
	// noted that of the last one. Zero is never.
	Answered int
	// Asked is before which message's request it is killed: the first is 1. Zero is never.
	Asked int
}

// TestKilledHelper is not a test: it is the program that TestKilled kills.
func TestKilledHelper(t *testing.T) {
	text := os.Getenv(killedVariable)
	if text == "" {
		return
	}
	var k killing
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		t.Fatal(err)
	}
	o := options(t, k.Channel)
	o.Dir = k.Dir
	asked, answered := 0, 0
	o.Reached = func(context.Context) {
		if answered++; answered == k.Answered {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	o.Resolve = func(_ context.Context, text string) (string, error) {
		if text == k.Channel.URL || text == k.Channel.SMTP { // once for each message
			if asked++; asked == k.Asked {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		return text, nil
	}
	_, _ = sender(t, o).Send(t.Context(), []notify.Event{about(k.Event)})
}

// about is an event about something that no other event is about.
func about(id string) notify.Event {
	e := failed(id)
	e.Fingerprint = id
	return e
}

// told is a message as the other side sees it: by what it tells messages apart, and what
// is in it.
type told struct{ id, text string }

func idsTold(all []told) (ids []string) {
	for _, one := range all {
		ids = append(ids, one.id)
	}
	return ids
}

// recipient is the other side of a channel.
type recipient struct {
	// channel works, and dead is the same one while nothing listens there.
	channel, dead notify.Channel
	// firing and resolved are the ids by which it knows of what an event begins and ends.
	firing, resolved string
	told             func(*testing.T) []told
}

// recipients are the kinds of other sides by how they tell that a message came before.
func recipients(t *testing.T) map[string]func(*testing.T) recipient {
	nobody := fmt.Sprintf("127.0.0.1:%d", testkit.ClosedPort(t))
	return map[string]func(*testing.T) recipient{
		"webhook": func(t *testing.T) recipient {
			svc := newService(t)
			return recipient{hook(svc.URL), hook("http://" + nobody), "firing %s", "resolved %s_end", func(t *testing.T) (all []told) {
				for _, r := range svc.all() {
					e := decode(t, r.Body)
					all = append(all, told{string(e.State) + " " + e.ID, r.Body})
				}
				return all
			}}
		},
		"PagerDuty": func(t *testing.T) recipient {
			svc := newService(t)
			to := func(url string) notify.Channel {
				return notify.Channel{Name: "own", Type: notify.TypePagerDuty, URL: url, Key: "key"}
			}
			return recipient{to(svc.URL), to("http://" + nobody), "trigger %s", "resolve %s", func(t *testing.T) (all []told) {
				for _, r := range svc.all() {
					var e struct {
						Action string `json:"event_action"`
						Key    string `json:"dedup_key"`
					}
					if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
						t.Fatal(err)
					}
					all = append(all, told{e.Action + " " + e.Key, r.Body})
				}
				return all
			}}
		},
		"e-mail": func(t *testing.T) recipient {
			m := startMail(t, "none")
			to := func(address string) notify.Channel {
				return notify.Channel{Name: "own", Type: notify.TypeEmail, To: []string{"dba@clinic.example"}, SMTP: "smtp://" + address + "?tls=off"}
			}
			return recipient{to(fmt.Sprintf("127.0.0.1:%d", m.port)), to(nobody), "<%s@backup-1>", "<%s_end@backup-1>", func(t *testing.T) (all []told) {
				for _, one := range m.all() {
					p := parseMail(t, one.text)
					all = append(all, told{p.Header.Get("Message-Id"), p.subject + "\n" + p.text + p.html})
				}
				return all
			}}
		},
	}
}

// TestKilled: runs are killed by SIGKILL before each of the messages that they have to
// send, and between the answer to it and their own record of it. The next run sends the
// rest: all come, in order, once, but for the one whose answer was not recorded. That
// comes again as it was, with the same id: that of a webhook, the dedup_key of PagerDuty,
// the Message-ID of an e-mail.
func TestKilled(t *testing.T) {
	messages := testkit.Amount(2, 9, 12)
	for name, begin := range recipients(t) {
		for n := 1; n <= messages; n++ {
			t.Run(fmt.Sprintf("%s/before request %d", name, n), func(t *testing.T) { testKilled(t, begin(t), messages, killing{Asked: n}) })
			t.Run(fmt.Sprintf("%s/after answer %d", name, n), func(t *testing.T) { testKilled(t, begin(t), messages, killing{Answered: n}) })
		}
	}
}

// testKilled has one run after the other find nobody listening, the last one killed, and
// one after it send what there is, and the end of the last.
func testKilled(t *testing.T, to recipient, messages int, k killing) {
	o := options(t, to.dead)
	var want []string
	for i := range messages {
		id := fmt.Sprintf("evt_%03d", i)
		want = append(want, fmt.Sprintf(to.firing, id))
		if i == messages-1 {
			k.Channel, k.Dir, k.Event = to.channel, o.Dir, id
			runKilled(t, k)
		} else if results, _ := sender(t, o).Send(t.Context(), []notify.Event{about(id)}); strings.Contains(outcomes(results), "sent") {
			t.Fatal(outcomes(results))
		}
	}
	before := to.told(t)
	if got := idsTold(before); !slices.Equal(got, want[:max(k.Answered, k.Asked-1)]) {
		t.Fatalf("before it was killed it sent %q, of %q", got, want)
	}
	want = append(want, fmt.Sprintf(to.resolved, k.Event))
	if k.Answered > 0 {
		want = slices.Insert(want, k.Answered, want[k.Answered-1])
	}
	end := succeeded(k.Event+"_end", time.Hour)
	end.Fingerprint = k.Event
	o.Channels = []notify.Channel{to.channel}
	for range 2 { // of which the second has nothing to do
		if _, err := sender(t, o).Send(t.Context(), []notify.Event{end}); err != nil {
			t.Fatal(err)
		}
		all := to.told(t)
		if got := idsTold(all); !slices.Equal(got, want) {
			t.Fatalf("sent %q, want %q", got, want)
		}
		if n := k.Answered; n > 0 && all[n] != all[n-1] {
			t.Errorf("sent again as %+v, first %+v", all[n], all[n-1])
		}
	}
}

// runKilled runs the program until it kills itself.
func runKilled(t *testing.T, k killing) {
	t.Helper()
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledHelper$")
	// What it makes goes with this test's: it removes nothing.
	cmd.Env = append(os.Environ(), killedVariable+"="+string(text), "TMPDIR="+t.TempDir())
	cmd.WaitDelay = 10 * time.Second
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the program was not killed: %v\n%s", err, said)
	}
}
