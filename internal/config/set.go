package config

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/schedule"
)

// set checks what a source has for a field and stores it.
func (l *loader) set(f field, r raw, dst reflect.Value) error {
	if f.secret {
		text, err := l.resolveSecret(f, r)
		dst.SetString(text)
		return err
	}
	must, err := f.parse(r, dst)
	if err != nil {
		return usage(fmt.Sprintf("%s %v", r.origin.subject(f.key), err), must)
	}
	return nil
}

// parse stores the value of r in dst. Its error is the rest of a sentence that
// begins with the key, and comes with a hint; neither quotes the value.
func (f field) parse(r raw, dst reflect.Value) (hint string, err error) {
	switch {
	case f.isMap():
		dst.Set(reflect.ValueOf(r.pairs))
		return "", nil
	case f.isAssertions():
		dst.Set(reflect.ValueOf(r.assertions))
		return "", nil
	case f.isMutes():
		dst.Set(reflect.ValueOf(r.mutes))
		return "", nil
	case f.isList():
		items := r.items
		if f.rule == "patterns" {
			if items == nil && r.text != "" {
				items = []string{r.text}
			}
			dst.Set(reflect.ValueOf(items))
			return "", nil
		}
		if f.rule == "words" || f.rule == "signers" {
			if items == nil {
				items = strings.FieldsFunc(r.text, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\t' })
			}
			if f.rule == "signers" {
				if items, hint, err = signers(items, r.base); err != nil {
					return hint, err
				}
			}
			dst.Set(reflect.ValueOf(items))
			return "", nil
		}
		if items == nil {
			items = slices.DeleteFunc(split(r.text, listSeparator()), func(s string) bool { return s == "" })
		}
		paths := make([]string, 0, len(items))
		for _, item := range items {
			path, hint, err := absolute(item, r.base)
			if err != nil {
				return hint, err
			}
			paths = append(paths, path)
		}
		dst.Set(reflect.ValueOf(paths))
		return "", nil
	case f.isDuration():
		d, err := ParseDuration(r.text)
		dst.SetInt(int64(d))
		return DurationHint + "; the default is " + f.def, err
	case f.typ.Kind() == reflect.Int || f.typ.Kind() == reflect.Float64:
		return "correct it, or leave it out for " + f.def, f.parseNumber(r.text, dst)
	case f.typ.Kind() == reflect.Bool:
		return "write true or false", parseBool(r.text, dst)
	default:
		return f.parseText(r, dst)
	}
}

// signers makes the paths among public keys absolute.
func signers(items []string, base string) (all []string, hint string, err error) {
	inline := regexp.MustCompile(`^RW[A-Za-z0-9+/]{54}$`)
	for _, item := range items {
		if !inline.MatchString(item) {
			if item, hint, err = absolute(item, base); err != nil {
				return nil, hint, err
			}
		}
		all = append(all, item)
	}
	return all, "", nil
}

func parseBool(text string, dst reflect.Value) error {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "t", "yes", "y", "on", "1", "enabled":
		dst.SetBool(true)
	default:
		if !wanted(text) {
			dst.SetBool(false)
			return nil
		}
		return fmt.Errorf("must be true or false")
	}
	return nil
}

func (f field) parseNumber(text string, dst reflect.Value) error {
	low, _ := strconv.ParseFloat(f.min, 64)
	high, _ := strconv.ParseFloat(f.max, 64)
	if dst.Kind() == reflect.Int {
		n, err := strconv.Atoi(text)
		if err != nil || float64(n) < low || float64(n) > high {
			return fmt.Errorf("must be a whole number from %s to %s", f.min, f.max)
		}
		dst.SetInt(int64(n))
		return nil
	}
	x, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || math.IsNaN(x) || x < low || x > high {
		return fmt.Errorf("must be a number from %s to %s", f.min, f.max)
	}
	dst.SetFloat(x)
	return nil
}

func (f field) parseText(r raw, dst reflect.Value) (hint string, err error) {
	text := r.text
	switch {
	case strings.ContainsAny(text, "\n\r\x00"):
		return "", fmt.Errorf("must be one line")
	case f.enum != nil:
		text = strings.ToLower(text)
		if !slices.Contains(f.enum, text) {
			if len(f.enum) == 1 {
				return "this version knows no other", fmt.Errorf("must be %s", f.enum[0])
			}
			return "the default is " + f.def, fmt.Errorf("must be one of %s", strings.Join(f.enum, ", "))
		}
	case f.rule == "name" && text != "":
		if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`).MatchString(text) {
			return "it becomes the name of a folder", fmt.Errorf("must be 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first")
		}
	case f.rule == "slot" && text != "":
		if !slotName.MatchString(text) {
			return "use up to 63 lower-case letters, digits and underscores", fmt.Errorf("is not a valid name of a replication slot")
		}
	case f.rule == "length" || f.rule == "days" || f.rule == "stale":
		if text, hint, err = checkLength(f.rule, text); err != nil {
			return hint, err
		}
	case f.rule == "times" && text != "":
		if _, err := schedule.ParseTimes(text, time.UTC); err != nil {
			return "write the five fields of cron, such as 0 8 * * 1", fmt.Errorf("is not a time of a schedule")
		}
	case f.rule == "timezone":
		if _, err := time.LoadLocation(text); err != nil || text == "" || text == "Local" {
			return "write UTC, or a name such as Europe/Berlin", fmt.Errorf("is not a known time zone")
		}
	case f.rule == "store" && text != "":
		if text, hint, err = checkStore(text, r.base); err != nil {
			return hint, err
		}
	case strings.HasPrefix(f.rule, bucketRule) && text != "":
		if text, hint, err = checkBucket(text, Cloud(strings.TrimPrefix(f.rule, bucketRule))); err != nil {
			return hint, err
		}
	case f.rule == "signing key" && text != "":
		if text, hint, err = checkSigningKey(text, r.base); err != nil {
			return hint, err
		}
	case f.rule == "path or off" && text != "" && !wanted(text):
		text = "off"
	case (f.path || f.rule == "path or off") && text != "":
		if text, hint, err = absolute(text, r.base); err != nil {
			return hint, err
		}
	}
	dst.SetString(text)
	return "", nil
}

// absolute makes a path absolute from base. What a shell or a later version
// would read in another way is refused rather than made a strange folder.
func absolute(path, base string) (abs, hint string, err error) {
	switch {
	case strings.ContainsAny(path, "\n\r\x00"):
		return "", "", fmt.Errorf("must be one line")
	case strings.Contains(path, "://"):
		return "", "a bucket for backups is named in backup.store (PGMEDIC_STORE)", fmt.Errorf("must be a local path, not a URL")
	case urlLike(path):
		return "", "a bucket for backups is named in backup.store (PGMEDIC_STORE); write ./ before a path that has a colon", fmt.Errorf("must be a local path, and begins like a URL")
	case path == "~" || strings.HasPrefix(path, "~/"):
		return "", "write the path out", fmt.Errorf("begins with ~, which only a shell replaces")
	case filepath.IsAbs(path):
		return filepath.Clean(path), "", nil
	default:
		return filepath.Join(base, path), "", nil
	}
}

// checkSigningKey makes the path of a signing key absolute. A reference to one in a KMS
// stays as it is, but for its scheme, which must be a known one.
func checkSigningKey(text, base string) (key, hint string, err error) {
	const forms = "write the path of a file, aws-kms://region/KEY, gcp-kms://project/location/ring/key/version or vault-transit://mount/key"
	scheme, _, reference := strings.Cut(text, "://")
	switch {
	case !reference && urlLike(text):
		return "", forms, fmt.Errorf("begins like a URL and is not one")
	case !reference:
		return absolute(text, base)
	case !slices.Contains([]string{"aws-kms", "gcp-kms", "vault-transit"}, scheme):
		return "", forms, fmt.Errorf("must be a file, or begin with aws-kms://, gcp-kms:// or vault-transit://")
	}
	return text, "", nil
}

// DurationHint says how durations are written.
const DurationHint = "write a duration such as 30s, 5m, 1h30m or 7d, or a number of seconds"

// ParseDuration reads 30s, 7d, 1d12h or, as existing deployments write it, 30 for
// seconds. Its error is the rest of a sentence that begins with what was to be one,
// and does not quote it.
func ParseDuration(text string) (time.Duration, error) {
	var d time.Duration
	seconds, err := strconv.ParseFloat(text, 64)
	if err == nil {
		if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/float64(time.Second)/2 {
			return 0, fmt.Errorf("must be a duration that makes sense")
		}
		d = time.Duration(seconds * float64(time.Second))
	} else if days, rest, isDays := strings.Cut(text, "d"); isDays {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && rest != "" {
			d, err = time.ParseDuration(rest)
		}
		if err != nil || math.IsNaN(n) || n < 0 || d < 0 || math.Abs(n) > math.MaxInt64/float64(24*time.Hour)/4 {
			return 0, fmt.Errorf("must be a duration")
		}
		d += time.Duration(n * float64(24*time.Hour))
	} else if d, err = time.ParseDuration(text); err != nil {
		return 0, fmt.Errorf("must be a duration")
	}
	if d < 0 {
		return 0, fmt.Errorf("must not be negative")
	}
	return d, nil
}

// imply settles the defaults that hang on other settings: only plain backups
// know aes-256-cbc, and those are files that people exchange, which are gzip's.
func (c *Config) imply() {
	if c.Backup.Encryption == "aes-256-cbc" && !c.origins["backup.method"].Given() {
		c.Backup.Method = "plain"
	}
	if c.Backup.Method == "plain" && !c.origins["backup.compression"].Given() {
		c.Backup.Compression = "gzip"
	}
}

// checkThresholds refuses limits that contradict each other, at the one that
// the user set.
func (c *Config) checkThresholds() error {
	t := c.Report.Thresholds
	const prefix = "report.thresholds."
	contradict := func(key, other, relation string) error {
		if !c.origins[prefix+key].Given() {
			key, other = other, key
			relation = map[string]string{"above": "below", "below": "above"}[relation]
		}
		return usage(fmt.Sprintf("%s is %s %s", c.origins[prefix+key].subject(prefix+key), relation, other),
			"a warning must come before the critical limit")
	}
	if t.ConnectionsWarnPercent > t.ConnectionsCriticalPercent {
		return contradict("connections_warn_percent", "connections_critical_percent", "above")
	}
	if t.CacheHitWarnPercent < t.CacheHitCriticalPercent {
		return contradict("cache_hit_warn_percent", "cache_hit_critical_percent", "below")
	}
	for _, pair := range []struct {
		warn, critical string
		above          bool
	}{
		{"lock_wait_warn", "lock_wait_critical", t.LockWaitWarn > t.LockWaitCritical},
		{"replication_lag_warn", "replication_lag_critical", t.ReplicationLagWarn > t.ReplicationLagCritical},
		{"limit_info_percent", "limit_warn_percent", t.LimitInfoPercent > t.LimitWarnPercent},
		{"limit_warn_percent", "limit_critical_percent", t.LimitWarnPercent > t.LimitCriticalPercent},
		{"disk_warn_percent", "disk_critical_percent", t.DiskWarnPercent > t.DiskCriticalPercent},
		{"disk_full_critical", "disk_full_warn", t.DiskFullCritical > t.DiskFullWarn},
	} {
		if pair.above {
			return contradict(pair.warn, pair.critical, "above")
		}
	}
	return nil
}
