package pool

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// FromEnv returns the configuration that these environment variables say. An
// unset or empty one means its default.
//
//	DATABASE_URL               the primary's connection string, or instead of it
//	DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD   (localhost, 5432, no others)
//	DB_READ_REPLICA_URL        the replicas' URLs, between spaces or commas
//	DB_CONNECTION_LIMIT        MaxConns (10)
//	DB_POOL_TIMEOUT            AcquireTimeout, in seconds (10)
//	DB_CONNECT_TIMEOUT         ConnectTimeout, in seconds (5)
//	DB_SOCKET_TIMEOUT          SocketTimeout, in seconds (60; 0: off)
//	DB_QUERY_TIMEOUT           QueryTimeout, in milliseconds (30000; 0: off)
//	DB_SLOW_QUERY_THRESHOLD    SlowQuery, in milliseconds (1000; 0: off)
//	DB_MAX_RETRIES             MaxRetries (3; 0: off)
//	DB_RETRY_DELAY             RetryDelay, in milliseconds (1000)
//	DB_RETRY_BACKOFF           RetryBackoff (2)
//	DB_HEALTH_CHECK_INTERVAL   HealthInterval, in milliseconds (30000)
//
// Times may have a unit, too: 30s. An error is an ErrConfig and never quotes a
// connection string or a password. The fields that have no variable, such as the
// Logger, are the caller's to set.
func FromEnv() (Config, error) { return fromEnv(os.Getenv) }

func fromEnv(getenv func(string) string) (Config, error) {
	e := environment{getenv: getenv}
	c := Config{
		PrimaryURL:     e.primary(),
		ReplicaURLs:    e.replicas(),
		MaxConns:       e.number("DB_CONNECTION_LIMIT", 1),
		AcquireTimeout: e.duration("DB_POOL_TIMEOUT", time.Second, false),
		ConnectTimeout: e.duration("DB_CONNECT_TIMEOUT", time.Second, false),
		SocketTimeout:  e.duration("DB_SOCKET_TIMEOUT", time.Second, true),
		QueryTimeout:   e.duration("DB_QUERY_TIMEOUT", time.Millisecond, true),
		SlowQuery:      e.duration("DB_SLOW_QUERY_THRESHOLD", time.Millisecond, true),
		RetryDelay:     e.duration("DB_RETRY_DELAY", time.Millisecond, false),
		RetryBackoff:   e.factor("DB_RETRY_BACKOFF"),
		HealthInterval: e.duration("DB_HEALTH_CHECK_INTERVAL", time.Millisecond, false),
	}
	if c.MaxRetries = e.number("DB_MAX_RETRIES", 0); c.MaxRetries == 0 && getenv("DB_MAX_RETRIES") != "" {
		c.MaxRetries = -1
	}
	if e.problems != nil {
		return Config{}, errors.Join(e.problems...)
	}
	return c, nil
}

// environment reads variables and collects what is wrong with them.
type environment struct {
	getenv   func(string) string
	problems []error
}

func (e *environment) refuse(name, problem, advice string) {
	e.problems = append(e.problems, &ConfigError{name, problem, advice})
}

// refuseString refuses a connection string that Open would refuse, by the name of its
// variable.
func (e *environment) refuseString(name, text string) {
	if _, _, err := parseConnString(name, text); err != nil {
		e.problems = append(e.problems, err)
	}
}

// primary is the connection string of DATABASE_URL, or one made of the single
// variables.
func (e *environment) primary() string {
	if text := e.getenv("DATABASE_URL"); text != "" {
		e.refuseString("DATABASE_URL", text)
		return text
	}
	name, user := e.getenv("DB_NAME"), e.getenv("DB_USER")
	if name == "" || user == "" {
		e.refuse("DATABASE_URL", "is not set", "set it, or set DB_NAME and DB_USER besides DB_HOST (localhost) and DB_PORT (5432)")
		return ""
	}
	host, port := orDefault(e.getenv("DB_HOST"), "localhost"), orDefault(e.getenv("DB_PORT"), "5432")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		e.refuse("DB_PORT", fmt.Sprintf("%.20q is not a port", port), "give a number from 1 to 65535")
		return ""
	}
	u := url.URL{Scheme: "postgres", Path: "/" + name, User: url.User(user)}
	if password := e.getenv("DB_PASSWORD"); password != "" {
		u.User = url.UserPassword(user, password)
	}
	if strings.HasPrefix(host, "/") { // the folder of a socket
		u.RawQuery = url.Values{"host": {host}, "port": {port}}.Encode()
	} else {
		u.Host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return u.String()
}

// betweenURLs are the commas between two URLs. Others are part of one, which then
// names several servers.
var betweenURLs = regexp.MustCompile(`,\s*(postgres(?:ql)?://)`)

// replicas are the URLs of DB_READ_REPLICA_URL. Connection strings of the form host=…
// hold spaces themselves.
func (e *environment) replicas() (all []string) {
	for _, one := range strings.Fields(betweenURLs.ReplaceAllString(e.getenv("DB_READ_REPLICA_URL"), " $1")) {
		if one = strings.Trim(one, ","); one == "" {
			continue
		}
		if !strings.Contains(one, "://") {
			e.refuse("DB_READ_REPLICA_URL", "has a part that is not a URL", "give URLs, postgres://user@host/database, with spaces or commas between them")
			return nil
		}
		e.refuseString("DB_READ_REPLICA_URL", one)
		all = append(all, one)
	}
	return all
}

func (e *environment) number(name string, least int) int {
	text := e.getenv(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < int64(least) {
		e.refuse(name, fmt.Sprintf("%.20q is not a whole number of at least %d", text, least), "leave it unset for the default")
		return 0
	}
	return int(n)
}

func (e *environment) factor(name string) float64 {
	text := e.getenv(name)
	if text == "" {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 1 && f <= 100) {
		e.refuse(name, fmt.Sprintf("%.20q is not a factor from 1 to 100", text), "leave it unset for 2")
		return 0
	}
	return f
}

// duration reads a number of units, or a duration with its own unit. Zero turns
// off what can be off, and is refused elsewhere.
func (e *environment) duration(name string, unit time.Duration, canBeOff bool) time.Duration {
	text := e.getenv(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if n, atoi := strconv.ParseInt(text, 10, 32); atoi == nil {
		d, err = time.Duration(n)*unit, nil
	}
	switch {
	case err != nil || d < 0 || d == 0 && !canBeOff:
		e.refuse(name, fmt.Sprintf("%.20q is not a duration", text), fmt.Sprintf("give a number (one is %s) or a duration such as 30s", unit))
		return 0
	case d == 0:
		return -1
	}
	return d
}
