package gcstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// locks is what Google documents of object retention and holds, of which fake-gcs-server
// knows nothing: who may delete and lengthen what, and the answers where that is refused
// (https://docs.cloud.google.com/storage/docs/object-lock and .../object-holds). It stands
// in the front, and holds nothing but locks.
type locks struct {
	mu      sync.Mutex
	apart   time.Duration            // of the server's clock
	buckets map[string]time.Duration // that allow object retention, with the time of their policy
	objects map[string]*objectLock   // by bucket/name
	hidden  map[string]*objectLock   // the same, of objects that were deleted and whose bytes stay
	keeping map[string]bool          // buckets that keep versions
	uploads map[string]*objectLock   // by the address of the session
}

// objectLock is that of an object of a bucket that allows it.
type objectLock struct {
	object         string // bucket/name
	Retention      *retention
	TemporaryHold  bool
	EventBasedHold bool
	made           time.Time
	metageneration int64
}

type retention struct {
	Mode            string    `json:"mode"`
	RetainUntilTime time.Time `json:"retainUntilTime"`
}

// LockBucket makes a bucket that allows object retention, with a retention policy of so
// long, which may be zero.
func (s *Server) LockBucket(policy time.Duration) string {
	s.tb.Helper()
	name := s.Bucket()
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	s.locks.buckets[name] = policy
	return name
}

// LockVersionBucket makes one that keeps versions, too.
func (s *Server) LockVersionBucket() string {
	s.tb.Helper()
	name := s.VersionedBucket()
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	s.locks.buckets[name], s.locks.keeping[name] = 0, true
	return name
}

// Apart has the server's clock be so far from this host's, in its answers about buckets
// and for locks.
func (s *Server) Apart(d time.Duration) {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	s.locks.apart = d
}

// EventHold sets an event-based hold of an object, as another program would.
func (s *Server) EventHold(bucket, name string) {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	o := s.locks.objects[bucket+"/"+name]
	o.EventBasedHold, o.metageneration = true, o.metageneration+1
}

// Delete deletes all versions of an object for good, with every permission but that to
// bypass locks, and returns the first error.
func (s *Server) Delete(bucket, name string) error {
	for _, o := range s.list(bucket, "?versions=true") {
		if o.Name != name {
			continue
		}
		status, err := s.ask(http.MethodDelete, "/storage/v1/b/"+bucket+"/o/"+url.PathEscape(name)+"?generation="+o.Generation, "")
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("status %d", status)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Objects returns the names in a bucket, up to 1,000.
func (s *Server) Objects(bucket string) (names []string) {
	s.tb.Helper()
	for _, o := range s.list(bucket, "") {
		names = append(names, o.Name)
	}
	return names
}

// listed is an object of a listing.
type listed struct {
	Name       string `json:"name"`
	Generation string `json:"generation"`
}

func (s *Server) list(bucket, query string) []listed {
	s.tb.Helper()
	answer, err := http.Get(s.back.Load().String() + "/storage/v1/b/" + bucket + "/o" + query)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var listing struct {
		Items []listed `json:"items"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&listing); err != nil {
		s.tb.Fatal(err)
	}
	return listing.Items
}

func (l *locks) now() time.Time { return time.Now().Add(l.apart) }

// objectOf returns the bucket of a request, and the object.
func objectOf(r *http.Request) (bucket, name string) {
	_, path, ok := strings.Cut(r.URL.EscapedPath(), "/storage/v1/b/")
	if !ok {
		return "", ""
	}
	bucket, path, _ = strings.Cut(path, "/")
	name, err := url.PathUnescape(strings.TrimPrefix(path, "o/"))
	if err != nil || !strings.HasPrefix(path, "o/") {
		return bucket, ""
	}
	return bucket, name
}

// expires returns until when an object is retained, by itself or by its bucket's policy.
func (l *locks) expires(o *objectLock) (until time.Time) {
	bucket, _, _ := strings.Cut(o.object, "/")
	if policy := l.buckets[bucket]; policy > 0 {
		until = o.made.Add(policy)
	}
	if o.Retention != nil && o.Retention.RetainUntilTime.After(until) {
		until = o.Retention.RetainUntilTime
	}
	return until
}

// before answers a request that is about locks, or refuses it. Where it does neither, it
// returns what the request, if it ends well, makes of locks.
func (l *locks) before(w http.ResponseWriter, r *http.Request) (answered bool, made *objectLock) {
	bucket, name := objectOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, locking := l.buckets[bucket]
	if r.Method == http.MethodGet && name == "" && strings.HasSuffix(r.URL.Path, "/b/"+bucket) && locking {
		w.Header().Set("Date", l.now().UTC().Format(http.TimeFormat))
		reply(w, map[string]any{"objectRetention": map[string]string{"mode": "Enabled"}})
		return true, nil
	}
	if strings.HasPrefix(r.URL.Path, "/upload/") && r.Method == http.MethodPost {
		described, err := describedIn(r)
		switch {
		case err != nil:
			refuse(w, http.StatusBadRequest, "invalid", err.Error())
			return true, nil
		case described.Retention != nil && (!locking || !described.Retention.RetainUntilTime.After(l.now())):
			refuse(w, http.StatusBadRequest, "invalid", "The retention is not one that the bucket takes.")
			return true, nil
		}
		return false, &objectLock{object: bucket + "/" + described.Name, Retention: described.Retention, TemporaryHold: described.TemporaryHold, metageneration: 1}
	}
	if r.Method == http.MethodDelete {
		return l.refusesDeletion(w, bucket, bucket+"/"+name, r.URL.Query().Has("generation")), nil
	}
	return false, nil
}

// refusesDeletion refuses to delete what is locked. Where a bucket keeps versions, what is
// retained can be hidden all the same, and its bytes stay: only a deletion of a generation
// is for good. The model has one hidden object a name.
func (l *locks) refusesDeletion(w http.ResponseWriter, bucket, object string, forGood bool) bool {
	hides := l.keeping[bucket] && !forGood
	for _, o := range []*objectLock{l.objects[object], l.hidden[object]} {
		switch {
		case o == nil:
		case o.TemporaryHold, o.EventBasedHold:
			refuse(w, http.StatusForbidden, "objectUnderActiveHold", "Object is under active hold and cannot be deleted, overwritten or archived.")
			return true
		case !hides && l.now().Before(l.expires(o)):
			refuse(w, http.StatusForbidden, "retentionPolicyNotMet", "Object is subject to its retention and cannot be deleted or overwritten yet.")
			return true
		}
	}
	if o := l.objects[object]; o != nil && hides {
		l.hidden[object] = o
		delete(l.objects, object)
	}
	return false
}

type described struct {
	Name          string     `json:"name"`
	Retention     *retention `json:"retention"`
	TemporaryHold bool       `json:"temporaryHold"`
}

// describedIn reads what a request says of the object that it makes.
func describedIn(r *http.Request) (d described, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return d, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	text := body
	if kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).NextPart()
		if err != nil {
			return d, err
		}
		if text, err = io.ReadAll(part); err != nil {
			return d, err
		}
	}
	return d, json.Unmarshal(text, &d)
}

// after notes what a request made, and adds what is known of locks to its answer.
func (l *locks) after(answer *http.Response, made *objectLock) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := answer.Request
	bucket, name := objectOf(r)
	switch session := answer.Header.Get("Location"); {
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated:
	case made != nil && session != "":
		if u, err := url.Parse(session); err == nil {
			l.uploads[u.RequestURI()] = made
		}
	case made != nil:
		l.make(made)
	case l.uploads[r.URL.RequestURI()] != nil:
		l.make(l.uploads[r.URL.RequestURI()])
		delete(l.uploads, r.URL.RequestURI())
	case r.Method == http.MethodGet && name != "" && r.URL.Query().Get("alt") != "media" && l.objects[bucket+"/"+name] != nil:
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		if text, err = l.described(text, l.objects[bucket+"/"+name]); err != nil {
			return err
		}
		answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	}
	return nil
}

func (l *locks) make(o *objectLock) {
	bucket, _, _ := strings.Cut(o.object, "/")
	if _, locking := l.buckets[bucket]; locking {
		o.made = l.now()
		l.objects[o.object] = o
	}
}

// described puts an object's lock into what the server says of it.
func (l *locks) described(text []byte, o *objectLock) ([]byte, error) {
	all := map[string]any{}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	delete(all, "retention")
	all["metageneration"] = strconv.FormatInt(o.metageneration, 10)
	if o.Retention != nil {
		all["retention"] = o.Retention
	}
	if until := l.expires(o); !until.IsZero() && !o.EventBasedHold {
		all["retentionExpirationTime"] = until
	}
	all["temporaryHold"], all["eventBasedHold"] = o.TemporaryHold, o.EventBasedHold
	return json.Marshal(all)
}

// patch changes a lock. Found is what the server says of the object.
func (l *locks) patch(w http.ResponseWriter, r *http.Request, found []byte) {
	bucket, name := objectOf(r)
	var there struct {
		Generation string `json:"generation"`
	}
	var change struct {
		Retention     *retention `json:"retention"`
		TemporaryHold *bool      `json:"temporaryHold"`
	}
	if err := json.NewDecoder(r.Body).Decode(&change); err != nil || json.Unmarshal(found, &there) != nil {
		refuse(w, http.StatusBadRequest, "invalid", "Invalid JSON.")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.objects[bucket+"/"+name]
	q := r.URL.Query()
	if o == nil {
		o = &objectLock{object: bucket + "/" + name, made: l.now(), metageneration: 1}
		l.objects[o.object] = o
	}
	_, locking := l.buckets[bucket]
	want, has := change.Retention, o.Retention
	switch {
	case q.Has("ifGenerationMatch") && q.Get("ifGenerationMatch") != there.Generation,
		q.Has("ifMetagenerationMatch") && q.Get("ifMetagenerationMatch") != strconv.FormatInt(o.metageneration, 10):
		refuse(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
		return
	case want != nil && (!locking || !want.RetainUntilTime.After(l.now())):
		refuse(w, http.StatusBadRequest, "invalid", "The retention is not one that the bucket takes.")
		return
	case want != nil && has != nil && has.Mode == "Locked" && (want.Mode != "Locked" || want.RetainUntilTime.Before(has.RetainUntilTime)),
		want != nil && has != nil && has.Mode == "Unlocked" && q.Get("overrideUnlockedRetention") != "true" &&
			(want.Mode != "Unlocked" || want.RetainUntilTime.Before(has.RetainUntilTime)):
		refuse(w, http.StatusForbidden, "forbidden", "The retention can't be reduced, and its mode not changed.")
		return
	}
	if want != nil {
		o.Retention = want
	}
	if change.TemporaryHold != nil {
		o.TemporaryHold = *change.TemporaryHold
	}
	o.metageneration++
	text, err := l.described(found, o)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "internalError", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "message": message, "errors": []map[string]string{{"reason": reason, "message": message}},
	}})
}
