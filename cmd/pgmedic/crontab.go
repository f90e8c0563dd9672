package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// crontabFile is the crontab of the user that runs pgmedic, behind crontab(1).
type crontabFile struct {
	program string
	environ []string
}

// findCrontab finds crontab(1) in PATH. Where there is none the error is of KindUsage.
func findCrontab(environ []string) (crontabFile, error) {
	program, err := exec.LookPath("crontab")
	if err != nil {
		return crontabFile{}, pgmedic.Errorf(pgmedic.KindUsage, "install cron, or use --systemd", "no program crontab was found in PATH")
	}
	return crontabFile{program: program, environ: environ}, nil
}

// run runs crontab(1).
func (c crontabFile) run(ctx context.Context, input string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.program, args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
	cmd.Env = append(append([]string(nil), c.environ...), "LC_ALL=C")
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.String(), complaint.String(), err
}

// read returns the crontab, empty where the user has none.
func (c crontabFile) read(ctx context.Context) (string, error) {
	text, complaint, err := c.run(ctx, "", "-l")
	if err == nil {
		return text, nil
	}
	// crontab(1) has one exit code for all that can be wrong: that there is none yet can be
	// told by its words alone, of vixie-cron and cronie or of busybox. Any other failure
	// must not look like an empty crontab, which would then be written over it.
	var exit *exec.ExitError
	none := strings.HasPrefix(complaint, "no crontab for ") || strings.Contains(complaint, "can't open ") && strings.Contains(complaint, "No such file")
	if errors.As(err, &exit) && text == "" && none && strings.Count(strings.TrimSpace(complaint), "\n") == 0 {
		return "", nil
	}
	return "", pgmedic.Errorf(pgmedic.KindUnreachable, "run `crontab -l` to see why", "read the crontab: %w: %s", err, words.OneLine(complaint))
}

// write replaces the crontab; an empty text removes it. Its error does not say whether the
// crontab was written: crontab(1) may have been ended at any moment.
func (c crontabFile) write(ctx context.Context, text string) error {
	args := []string{"-"}
	if text == "" {
		args = []string{"-r"}
	}
	if _, complaint, err := c.run(ctx, text, args...); err != nil {
		return fmt.Errorf("%w: %s", err, words.OneLine(complaint))
	}
	return nil
}

// stateAfter says which crontab is there after a write that failed. It reads it again, also
// where the run was interrupted.
func (c crontabFile) stateAfter(ctx context.Context, before, after string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rereadTimeout)
	defer cancel()
	switch now, err := c.read(ctx); {
	case err != nil:
		return "it is not known whether the crontab was written: see `crontab -l`, then run this again"
	case now == before:
		return "the crontab is as it was; /etc/cron.allow and cron.deny say who may have one"
	case now == after:
		return "the crontab was written all the same: `pgmedic check` compares it with the configuration"
	}
	return "the crontab is neither the old nor the new one: look at `crontab -l`"
}

// rereadTimeout bounds the reading of a crontab after a write that failed.
const rereadTimeout = 10 * time.Second
