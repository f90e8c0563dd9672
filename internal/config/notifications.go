package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Notifications say to whom it is reported how jobs ended.
type Notifications struct {
	Enabled      bool     `yaml:"enabled" env:"NOTIFICATION_ENABLED" default:"true" doc:"false sends no notifications, whatever channels there are. Pings are sent all the same."`
	Email        []string `yaml:"email" env:"NOTIFICATION_EMAIL" rule:"words" doc:"Addresses to send e-mail to: a channel with the name email. In the environment, separate them with commas."`
	Webhook      Secret   `yaml:"webhook" env:"NOTIFICATION_WEBHOOK" secret:"true" doc:"URL of a webhook: a channel with the name webhook. The host says whether it is one of Slack, Teams or Discord; any other receives the event as JSON."`
	SMTP         Secret   `yaml:"smtp" env:"SMTP_URL" secret:"true" doc:"Server that sends e-mail: smtp://user:password@host:587, which must offer STARTTLS, or smtps://host for TLS from the start. Empty: port 25 of this machine."`
	From         string   `yaml:"from" env:"PGMEDIC_MAIL_FROM" doc:"Sender of e-mail. Empty: pgmedic@ and the name of this host."`
	OnSuccess    string   `yaml:"on_success" env:"PGMEDIC_NOTIFY_ON_SUCCESS" default:"never" enum:"never,first,always" doc:"Which successes are reported to all channels: never, first (the first one after a failure) or always. A channel that received a failure receives its end in any case."`
	Names        string   `yaml:"names" env:"PGMEDIC_NOTIFY_NAMES" default:"full" enum:"full,none" doc:"none leaves the names of servers, databases and objects out of messages, and hints and errors, which may contain some."`
	Digest       string   `yaml:"digest" env:"PGMEDIC_NOTIFY_DIGEST" rule:"times" doc:"When a summary of all databases is sent, as the five fields of cron in UTC: 0 8 * * 1 is Monday at 8. The first job that ends after that sends it. Empty: never."`
	Link         string   `yaml:"link" env:"PGMEDIC_NOTIFY_LINK" doc:"Address to put into messages, such as that of a runbook."`
	AllowPrivate bool     `yaml:"allow_private" env:"PGMEDIC_NOTIFY_ALLOW_PRIVATE" default:"true" doc:"false sends nothing to private addresses and to this machine. Link-local addresses, and those by which clouds hand out credentials, are never used."`
	Dir          string   `yaml:"dir" env:"PGMEDIC_NOTIFY_DIR" path:"true" doc:"Folder for messages that could not be sent yet, and for what was reported. Empty: pgmedic/notify in XDG_STATE_HOME, else in ~/.local/state."`

	// Channels are those of the file. Routes say which events go to which.
	Channels []Channel `yaml:"-"`
	Routes   []Route   `yaml:"-"`
}

// Pings are the addresses of a dead man's switch, by job.
type Pings struct {
	Backup Secret `yaml:"backup" env:"PGMEDIC_PING_BACKUP" secret:"true" doc:"Address that is pinged when a backup starts, succeeds and fails, as healthchecks.io has it."`
	Copy   Secret `yaml:"copy" env:"PGMEDIC_PING_COPY" secret:"true" doc:"As above, for pgmedic copy."`
	Verify Secret `yaml:"verify" env:"PGMEDIC_PING_VERIFY" secret:"true" doc:"As above, for pgmedic verify."`
	Drill  Secret `yaml:"drill" env:"PGMEDIC_PING_DRILL" secret:"true" doc:"As above, for pgmedic drill."`
	Prune  Secret `yaml:"prune" env:"PGMEDIC_PING_PRUNE" secret:"true" doc:"As above, for pgmedic prune."`
	WAL    Secret `yaml:"wal" env:"PGMEDIC_PING_WAL" secret:"true" doc:"As above, for pgmedic wal stream, and about once a minute while all WAL of the server is stored."`
}

// Channel is one way by which messages are sent, as the file has it. Which fields a type
// has is for the package that sends. Secrets are as they are written: the secret itself,
// or a reference that can be followed when it is needed.
type Channel struct {
	Name, Type, URL, From, SMTP, Key, Token, Topic, Body, CAFile string
	To, Secrets                                                  []string
	// SkipResolved is true where the file says resolved: false.
	SkipResolved bool

	origin Origin
}

// Route says which events go to which channels.
type Route struct {
	Match map[string][]string
	To    []string
	// Escalate are its steps, in the order of the file.
	Escalate []RouteStep

	origin Origin
}

// RouteStep says who also hears of what is still wrong after a while.
type RouteStep struct {
	After time.Duration
	To    []string
}

const (
	notificationsKey = "notifications"
	channelsKey      = notificationsKey + ".channels"
	routesKey        = notificationsKey + ".routes"
	notifyHint       = "see docs/notifications.md for an example"
)

// channelKeys are the keys of a channel, with where each is kept.
func (c *Channel) keys() map[string]*string {
	return map[string]*string{
		"name": &c.Name, "type": &c.Type, "url": &c.URL, "from": &c.From, "smtp": &c.SMTP, "key": &c.Key, "token": &c.Token,
		"topic": &c.Topic, "body": &c.Body, "ca_file": &c.CAFile,
	}
}

// channelList reads the list of channels.
func (y *yamlFile) channelList(e entry) error {
	return y.eachItem(e, channelsKey, func(node ast.Node, entries []entry) error {
		c := Channel{origin: Origin{Source: SourceFile, File: y.name, Line: lineOf(node)}}
		single := c.keys()
		for _, e := range entries {
			var err error
			switch to := single[e.name]; {
			case e.name == "to":
				c.To, err = y.oneOrMore(e, "to of a channel")
			case e.name == "secret":
				c.Secrets, err = y.oneOrMore(e, "secret of a channel")
			case e.name == "resolved":
				var told string
				if told, err = y.scalar(e.value); err != nil || told != "true" && told != "false" {
					err = y.errorf(e.key, "false sends no message when a problem has ended", "resolved of a channel must be true or false")
				}
				c.SkipResolved = told == "false"
			case to != nil:
				if *to, err = y.scalar(e.value); err != nil || *to == "" {
					err = y.errorf(e.key, notifyHint, "%s of a channel must be one value", e.name)
				}
			default:
				err = y.unknownOf(e, "channel", slices.Concat(slices.Collect(maps.Keys(single)), []string{"to", "secret", "resolved"}))
			}
			if err != nil {
				return err
			}
		}
		if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`).MatchString(c.Name) {
			return y.errorf(node, "routes and messages call it so", "a channel needs a name of 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first")
		}
		for _, secret := range append([]*string{&c.URL, &c.SMTP, &c.Key, &c.Token}, pointers(c.Secrets)...) {
			path, is := strings.CutPrefix(*secret, "file:")
			if !is {
				continue
			}
			path, hint, err := absolute(strings.TrimPrefix(path, "//"), y.base)
			if err != nil {
				return y.errorf(node, hint, "a file that channel %s names %v", c.Name, err)
			}
			*secret = "file:" + path
		}
		if c.CAFile != "" {
			path, hint, err := absolute(c.CAFile, y.base)
			if err != nil {
				return y.errorf(node, hint, "ca_file of channel %s %v", c.Name, err)
			}
			c.CAFile = path
		}
		y.channels = append(y.channels, c)
		return nil
	})
}

func pointers(texts []string) (all []*string) {
	for i := range texts {
		all = append(all, &texts[i])
	}
	return all
}

// routeList reads the list of routes.
func (y *yamlFile) routeList(e entry) error {
	return y.eachItem(e, routesKey, func(node ast.Node, entries []entry) error {
		r := Route{origin: Origin{Source: SourceFile, File: y.name, Line: lineOf(node)}}
		to := false
		for _, e := range entries {
			switch e.name {
			case "match":
				conditions, err := y.entries(e.value, "match of a route")
				if err != nil {
					return err
				}
				r.Match = map[string][]string{}
				for _, c := range conditions {
					if r.Match[c.name], err = y.oneOrMore(c, "a condition of a route"); err != nil {
						return err
					}
				}
			case "to":
				to = true
				if list, ok := e.value.(*ast.SequenceNode); ok && len(list.Values) == 0 {
					continue // these events are sent to no one
				}
				var err error
				if r.To, err = y.oneOrMore(e, "to of a route"); err != nil {
					return err
				}
			case "escalate":
				var err error
				if r.Escalate, err = y.routeSteps(e); err != nil {
					return err
				}
			default:
				return y.unknownOf(e, "route", []string{"match", "to", "escalate"})
			}
		}
		if !to {
			return y.errorf(node, "to: [] sends these events to no one", "a route has no to")
		}
		y.routes = append(y.routes, r)
		return nil
	})
}

// routeSteps reads the steps of a route's escalation.
func (y *yamlFile) routeSteps(e entry) (steps []RouteStep, err error) {
	err = y.eachItem(e, "escalate of a route", func(node ast.Node, entries []entry) error {
		var s RouteStep
		for _, e := range entries {
			switch e.name {
			case "after":
				text, err := y.scalar(e.value)
				if err == nil {
					s.After, err = ParseDuration(text)
				}
				if err != nil || s.After <= 0 {
					return y.errorf(e.key, "write it as 15m or 2h", "after of a step must be a length of time")
				}
			case "to":
				var err error
				if s.To, err = y.oneOrMore(e, "to of a step"); err != nil {
					return err
				}
			default:
				return y.unknownOf(e, "step of a route", []string{"after", "to"})
			}
		}
		if s.After == 0 || len(s.To) == 0 {
			return y.errorf(node, "write it as {after: 15m, to: [phone]}", "a step of a route needs after and to")
		}
		steps = append(steps, s)
		return nil
	})
	return steps, err
}

// eachItem reads a list of mappings.
func (y *yamlFile) eachItem(e entry, key string, read func(node ast.Node, entries []entry) error) error {
	if e.value.Type() == ast.NullType {
		return nil
	}
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return y.errorf(e.key, notifyHint, "%s must be a list", key)
	}
	for _, node := range list.Values {
		entries, err := y.entries(node, "an item of "+key)
		if err != nil {
			return err
		}
		if err := read(node, entries); err != nil {
			return err
		}
	}
	return nil
}

// unknownOf refuses a key that an item of a list does not have.
func (y *yamlFile) unknownOf(e entry, what string, keys []string) error {
	slices.Sort(keys)
	hint := "the keys here are " + strings.Join(keys, ", ")
	if guess := nearest(e.name, keys); guess != "" {
		hint = "did you mean " + guess + "?"
	}
	return y.errorf(e.key, hint, "unknown key in a %s", what)
}

// notifications fills in channels and routes, and warns of what can't be meant.
func (l *loader) notifications(cfg *Config) {
	n := &cfg.Notifications
	if l.yaml != nil {
		n.Channels, n.Routes = l.yaml.channels, l.yaml.routes
	}
	for _, c := range n.Channels {
		for _, secret := range append([]string{c.URL, c.SMTP, c.Key, c.Token}, c.Secrets...) {
			l.noteCredential(secret, c.origin.subject("channel "+c.Name))
			name, is := strings.CutPrefix(secret, "env:")
			if is {
				l.named = append(l.named, name)
			}
			if is && l.variable(name) == "" {
				l.warn("%s names an environment variable that is not set: nothing can be sent by it", c.origin.subject("channel "+c.Name))
			}
		}
	}
	if origin := cfg.Origin(notificationsKey + ".enabled"); n.Enabled && !cfg.HasChannels() && origin.Given() {
		l.warn("%s asks for notifications, and there is no channel: set NOTIFICATION_EMAIL or NOTIFICATION_WEBHOOK, or write notifications.channels into pgmedic.yaml", origin.subject(notificationsKey+".enabled"))
	}
}

// CheckNotifications refuses routes where there is no channel at all. It is apart from
// loading because no job may stop for it: the channel can be one whose variable is not set
// on this host.
func (c *Config) CheckNotifications() error {
	if n := c.Notifications; n.Enabled && len(n.Routes) > 0 && !c.HasChannels() {
		return usage(n.Routes[0].origin.subject(routesKey)+" leads nowhere: there is no channel", notifyHint)
	}
	return nil
}

// ForNotifications reports whether a setting is for reporting how jobs ended, and for
// nothing else.
func ForNotifications(key string) bool {
	return strings.HasPrefix(key, notificationsKey+".") || strings.HasPrefix(key, "pings.")
}

// secretForLater leaves a secret that is kept elsewhere to whoever reports: a restore must
// not fail because a chat's address is not on this host.
func (l *loader) secretForLater(f field, r raw) (string, error) {
	scheme := managedScheme(r.text)
	if path, is := strings.CutPrefix(r.text, "file:"); is {
		path, hint, err := absolute(strings.TrimPrefix(path, "//"), r.base)
		if err != nil {
			return "", usage(fmt.Sprintf("%s names a file that %v", r.origin.subject(f.key), err), hint)
		}
		scheme, r.text = "file:", "file:"+path
	} else if name, is := strings.CutPrefix(r.text, "env:"); is {
		scheme, l.named = "env:", append(l.named, name)
	}
	if scheme == "" {
		return r.text, nil
	}
	return "", l.refer(f, r, scheme)
}

// Written returns a secret for reporting as it is written: itself, or where it is kept,
// for a Resolve to follow. It is empty where nothing is set, and for other settings.
func (c *Config) Written(key string) string {
	if !ForNotifications(key) {
		return ""
	}
	if r, kept := c.references[key]; kept {
		return r.text
	}
	n, p := c.Notifications, c.Pings
	return map[string]Secret{
		"notifications.webhook": n.Webhook, "notifications.smtp": n.SMTP,
		"pings.backup": p.Backup, "pings.copy": p.Copy, "pings.verify": p.Verify, "pings.drill": p.Drill, "pings.prune": p.Prune, "pings.wal": p.WAL,
	}[key].Reveal()
}

// HasChannels reports whether anything is configured that messages can be sent by.
func (c *Config) HasChannels() bool {
	n := c.Notifications
	return len(n.Email) > 0 || c.Written(notificationsKey+".webhook") != "" || len(n.Channels) > 0
}

// withoutEnds says of a channel that it does not hear of ends.
func withoutEnds(c Channel) string {
	if c.SkipResolved {
		return ", without ends"
	}
	return ""
}

// notificationValues are channels and routes as Effective shows them.
func (c *Config) notificationValues() (values []Value) {
	for i, one := range c.Notifications.Channels {
		values = append(values, Value{Key: fmt.Sprintf("%s[%d]", channelsKey, i), Origin: one.origin, Value: one.Name + ": " + one.Type + withoutEnds(one)})
	}
	for i, r := range c.Notifications.Routes {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(r.Match)) {
			parts = append(parts, name+"="+strings.Join(r.Match[name], "|"))
		}
		to := strings.Join(r.To, ", ")
		if to == "" {
			to = "no channel"
		}
		text := "everything else to " + to
		if len(parts) > 0 {
			text = strings.Join(parts, ", ") + " to " + to
		}
		steps := make([]string, len(r.Escalate))
		for i, step := range r.Escalate {
			steps[i] = "; after " + step.After.String() + " also to " + strings.Join(step.To, ", ")
		}
		text += strings.Join(steps, "")
		values = append(values, Value{Key: fmt.Sprintf("%s[%d]", routesKey, i), Origin: r.origin, Value: text})
	}
	return values
}
