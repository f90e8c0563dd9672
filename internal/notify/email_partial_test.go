package notify_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestReceivers: a receiver that is refused keeps the message from no other, and is
// reported; it is sent no second one.
func TestReceivers(t *testing.T) {
	for name, tt := range map[string]struct {
		code  int
		words string
	}{
		"refused": {550, "1 of 3 receivers did not get the message: the mail server refuses"},
		"busy":    {451, "1 of 3 receivers did not get the message: the mail server could not take the message (451)"},
	} {
		m := startMail(t, "none")
		m.receivers = map[string]error{"left@clinic.example": &smtp.SMTPError{Code: tt.code, Message: "canary"}}
		c := notify.Channel{
			Name: "dba", Type: notify.TypeEmail, To: []string{"a@clinic.example", "left@clinic.example", "b@clinic.example"},
			SMTP: fmt.Sprintf("smtp://127.0.0.1:%d?tls=off", m.port),
		}
		o := options(t, c)
		results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("evt_1")})
		if outcomes(results) != "dba sent" || pgmedic.KindOf(err) != pgmedic.KindDegraded || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "left") {
			t.Errorf("%s: %s: %v", name, outcomes(results), err)
		}
		var to []string
		for _, one := range m.all() {
			to = append(to, one.to...)
		}
		if strings.Join(to, " ") != "a@clinic.example b@clinic.example" {
			t.Errorf("%s: sent to %v", name, to)
		}
		if results, err = sender(t, o).Send(t.Context(), nil); len(results) > 0 || err != nil {
			t.Errorf("%s: %s, %v: sent again", name, outcomes(results), err)
		}
	}
}

// scripted is an SMTP server that says what it is told to: a greeting, and an answer to
// each command by its first word. To a word without one it says nothing, and waits; on
// "hang up" it does that. It returns its address, and counts the messages that it took.
func scripted(t *testing.T, greeting string, answers map[string]string) (place string, taken chan bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	taken = make(chan bool, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if greeting != "" {
					fmt.Fprintf(conn, "%s\r\n", greeting)
				}
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					word, _, _ := strings.Cut(lines.Text(), " ")
					answer := answers[word]
					if lines.Text() == "." {
						taken <- true
						answer = "250 taken"
					}
					switch answer {
					case "":
					case "hang up":
						return
					default:
						fmt.Fprintf(conn, "%s\r\n", answer)
					}
				}
			}()
		}
	}()
	return "smtp://" + l.Addr().String() + "?tls=off", taken
}

// TestTakenOnce: a message that the server took is sent, however the session ends.
func TestTakenOnce(t *testing.T) {
	place, taken := scripted(t, "220 here", map[string]string{
		"EHLO": "250 here", "NOOP": "250 yes", "MAIL": "250 yes", "RCPT": "250 yes", "DATA": "354 go on", "RSET": "hang up",
	})
	c := notify.Channel{Name: "dba", Type: notify.TypeEmail, To: []string{"a@clinic.example"}, SMTP: place}
	results, err := sender(t, options(t, c)).Send(t.Context(), []notify.Event{failed("evt_1")})
	if outcomes(results) != "dba sent" || err != nil || len(taken) != 1 {
		t.Errorf("%s: %v, taken %d times", outcomes(results), err, len(taken))
	}
}

// TestSilentMail: a server that stops to answer is waited for as long as the run has time,
// at every step, and the error says so.
func TestSilentMail(t *testing.T) {
	all := map[string]string{"EHLO": "250 here", "NOOP": "250 yes", "MAIL": "250 yes"}
	for name, tt := range map[string]struct {
		greeting string
		answers  map[string]string
	}{
		"no greeting": {"", nil}, "no answer to EHLO": {"220 here", nil}, "no answer to NOOP": {"220 here", map[string]string{"EHLO": "250 here"}},
		"no answer to RCPT": {"220 here", all},
	} {
		place, _ := scripted(t, tt.greeting, tt.answers)
		c := notify.Channel{Name: "dba", Type: notify.TypeEmail, To: []string{"a@clinic.example"}, SMTP: place}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		results, err := sender(t, options(t, c)).Send(ctx, []notify.Event{failed("evt_1")})
		cancel()
		if outcomes(results) != "dba kept" || err == nil || !strings.Contains(err.Error(), "did not answer in time") || strings.Contains(err.Error(), "STARTTLS") {
			t.Errorf("%s: %s: %v", name, outcomes(results), err)
		}
	}
}
