package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestEverythingIsCompleted walks all commands: a shell offers words for each argument and
// for each flag that takes a value, unless the value can be anything, which is said here. A
// new flag or argument must be put on one side.
func TestEverythingIsCompleted(t *testing.T) {
	free := []string{
		"action", "actor", "from-server", "image", "interval", "into", "jobs", "keep-displaced", "limit", "lock-timeout",
		"mailto", "max-chain", "max-delay", "max-duration", "max-rate", "max-share", "max-size", "name", "namespace",
		"next", "object", "openssl-iter", "passphrase-env", "password-secret", "port", "reason", "recipient", "rescued",
		"run-as", "sample", "scratch", "secret", "seed", "server", "sha256", "since", "skip-safety-backup", "slot",
		"spool-max-mb", "stale-after", "start-port", "system-identifier", "tablespace", "to-lsn", "to-name", "to-passphrase-env",
		"to-time", "until", "url", "user", "wait", "watch", "when", "window", "within", "zone",
		"report --pool", // an address or a file
		"keys rotate --to",
	}
	used := map[string]bool{}
	root := rootCLI(&env{stdout: io.Discard, stderr: io.Discard, stdoutWidth: func() int { return 0 }, stderrWidth: func() int { return 0 }, now: time.Now})
	for _, cmd := range commandsBelow(root) {
		path := cmd.CommandPath()
		if strings.HasPrefix(path, "pgmedic completion") {
			continue
		}
		for _, argument := range strings.Fields(cmd.Use)[1:] {
			if argument == "[flags]" || strings.HasPrefix(argument, "--") {
				continue
			}
			kind := strings.Trim(strings.NewReplacer("…", "", "|latest", "", "|live", "").Replace(argument), "[]")
			switch kind {
			case "ID", "DATABASE", "FINDING", "CHANNEL", "WHAT", "command", "ALERT", "SILENCE", "NAME", "DIR", "FILE", "PATH":
			default:
				t.Errorf("%s: a shell offers nothing for %s", path, argument)
			}
			if cmd.ValidArgsFunction == nil {
				t.Errorf("%s: no argument is completed", path)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			_, completed := cmd.GetFlagCompletionFunc(f.Name)
			one := strings.TrimPrefix(path, "pgmedic ") + " --" + f.Name
			isFree := slices.Contains(free, f.Name) || slices.Contains(free, one)
			if completed == isFree {
				t.Errorf("%s: completed is %t, and called free here is %t: a %s: %s", one, completed, isFree, f.Value.Type(), f.Usage)
			}
			used[f.Name], used[one] = true, true
		})
	}
	for _, name := range free {
		if !used[name] {
			t.Errorf("no command has --%s", name)
		}
	}
}

// TestFixedValuesAreOffered: what a shell offers for a flag with few values are those.
func TestFixedValuesAreOffered(t *testing.T) {
	root := rootCLI(&env{stdout: io.Discard, stderr: io.Discard, stdoutWidth: func() int { return 0 }, stderrWidth: func() int { return 0 }, now: time.Now})
	root.SetContext(context.Background())
	found := map[string]bool{}
	for _, cmd := range commandsBelow(root) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			key := fmt.Sprintf("%s --%s", strings.TrimPrefix(cmd.CommandPath(), "pgmedic "), f.Name)
			values, fixed := fixedValues()[key]
			if !fixed {
				return
			}
			found[key] = true
			complete, ok := cmd.GetFlagCompletionFunc(f.Name)
			if !ok {
				t.Errorf("%s: not completed", key)
				return
			}
			if got, directive := complete(cmd, nil, ""); !slices.Equal(got, values) || directive&cobra.ShellCompDirectiveNoFileComp == 0 {
				t.Errorf("%s: %q, want %q", key, got, values)
			}
		})
	}
	for key := range fixedValues() {
		if !found[key] {
			t.Errorf("there is no %s", key)
		}
	}
}

// TestCompletionWithoutAnAnswer: where a server or a store takes the connection and never
// answers, a shell gets the words that are known without it, and does not wait for ever.
func TestCompletionWithoutAnAnswer(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for name, test := range map[string]struct {
		command, flag string
		args, want    []string
	}{
		"DATABASE":   {"rollback", "", nil, []string{"clinic"}},
		"--database": {"restore", "database", []string{"latest"}, []string{"clinic"}},
		"ID":         {"show", "", nil, []string{"latest"}},
		"ID|live":    {"diff", "", []string{"latest"}, []string{"latest", "live"}},
	} {
		t.Run(name, func(t *testing.T) {
			// The shell has no patience left once the connection is taken.
			ctx, end := context.WithCancel(t.Context())
			defer end()
			got, directive := completeAt(ctx, t, silent(t, end), "24h", test.command, test.flag, test.args)
			if !slices.Equal(got, test.want) || directive != cobra.ShellCompDirectiveNoFileComp {
				t.Errorf("%q, %v; want %q", got, directive, test.want)
			}
			// Where it has little from the start, what is found by then is not known, but it ends.
			completeAt(t.Context(), t, silent(t, func() {}), "1ms", test.command, test.flag, test.args)
		})
	}
}

// silent returns the address of a server that takes connections and never answers. Taken is
// called with each.
func silent(t *testing.T, taken func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			taken()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
	})
	return l.Addr().String()
}

// completeAt returns what a shell offers for the last argument, or for the value of a flag,
// where the database and the store are at an address.
func completeAt(ctx context.Context, t *testing.T, address, patience, command, flag string, args []string) ([]string, cobra.ShellCompDirective) {
	t.Helper()
	root := rootCLI(&env{
		stdout: io.Discard, stderr: io.Discard, stdoutWidth: func() int { return 0 }, stderrWidth: func() int { return 0 }, now: time.Now, dir: t.TempDir(),
		environ: []string{
			"PGMEDIC_COMPLETION_TIMEOUT=" + patience, "DATABASE_URL=postgres://clinic@" + address + "/clinic",
			"PGMEDIC_STORE=s3://bucket/clinic", "PGMEDIC_S3_ENDPOINT=http://" + address, "PGMEDIC_S3_REGION=here",
		},
	})
	cmd, _, err := root.Find([]string{command})
	if err != nil {
		t.Fatal(err)
	}
	cmd.SetContext(ctx)
	complete := cmd.ValidArgsFunction
	if flag != "" {
		complete, _ = cmd.GetFlagCompletionFunc(flag)
	}
	if complete == nil {
		t.Fatalf("nothing completes %s %s", command, flag)
	}
	return complete(cmd, args, "")
}
