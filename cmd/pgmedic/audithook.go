package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// hookPatience is how long a record waits for a webhook. A rollback must not wait for it for
// longer; this threshold is our choice.
const hookPatience = 5 * time.Second

// auditHook forwards records of the audit log to a webhook of the notifications, each as the
// line that it is in the log.
type auditHook struct {
	job
	channel string
	// sender is made for the first record: it may ask a manager for secrets.
	sender *notify.Sender
}

// checkHook refuses a channel that is not a webhook.
func (j job) checkHook(name string) error {
	var hooks []string
	for _, c := range j.cfg.Notifications.Channels {
		if c.Type == notify.TypeWebhook {
			hooks = append(hooks, c.Name)
		}
	}
	if slices.Contains(hooks, name) {
		return nil
	}
	hint := "the channels of type webhook are " + strings.Join(hooks, ", ")
	if len(hooks) == 0 {
		hint = "write a channel of type webhook into notifications.channels; docs/audit.md#forwarding"
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "audit.forward names a channel that is not a webhook: %q", name)
}

// String implements audit.Sink.
func (h *auditHook) String() string { return "webhook:" + h.channel }

// Send implements audit.Sink.
func (h *auditHook) Send(ctx context.Context, line []byte) error {
	ctx, cancel := context.WithTimeout(ctx, hookPatience)
	defer cancel()
	if h.sender == nil {
		n, err := newNotifier(h.job, "audit")
		if err != nil {
			return err
		}
		if n.ready(ctx); !slices.Contains(n.sender.Names(), h.channel) && !h.cfg.Notifications.Enabled {
			return pgmedic.Errorf(pgmedic.KindUsage, "set notifications.enabled to true", "notifications.enabled is false")
		}
		h.sender = n.sender
	}
	sum := sha256.Sum256(line)
	return h.sender.Post(ctx, h.channel, "audit_"+hex.EncodeToString(sum[:16]), line)
}
