package s3test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// client is one that always has the right keys.
func (s *Server) client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.Endpoint), UsePathStyle: true, HTTPClient: s.transport(), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
		}),
	})
}

// MakeBucket makes a bucket.
func (s *Server) MakeBucket(name string) {
	s.tb.Helper()
	if _, err := s.client().CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		s.tb.Fatal(err)
	}
}

// LockBucket makes a bucket of a new name that has Object Lock, and so versions. The
// server must have been started with Versions.
func (s *Server) LockBucket() string {
	s.tb.Helper()
	name := "l-" + strings.ToLower(rand.Text()[:16])
	if _, err := s.client().CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		s.tb.Fatal(err)
	}
	return name
}

// VersionBucket is Bucket with versions.
func (s *Server) VersionBucket() string {
	s.tb.Helper()
	name := s.Bucket()
	_, err := s.client().PutBucketVersioning(context.Background(), &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return name
}

// DeleteVersions deletes all versions of an object for good, as an intruder with every
// permission but that to bypass locks would, and returns the first error.
func (s *Server) DeleteVersions(bucket, name string) error {
	s.tb.Helper()
	out, err := s.client().ListObjectVersions(context.Background(), &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: &name})
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, v := range out.Versions {
		if aws.ToString(v.Key) != name {
			continue
		}
		if _, err := s.client().DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &name, VersionId: v.VersionId}); err != nil {
			return err
		}
	}
	return nil
}

// Uploads returns the names of multipart uploads that are neither complete nor
// aborted.
func (s *Server) Uploads(bucket string) []string {
	s.tb.Helper()
	out, err := s.client().ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		s.tb.Fatal(err)
	}
	var names []string
	for _, u := range out.Uploads {
		names = append(names, aws.ToString(u.Key))
	}
	return names
}

// Objects returns the names in a bucket.
func (s *Server) Objects(bucket string) (names []string) {
	s.tb.Helper()
	pages := s3.NewListObjectsV2Paginator(s.client(), &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			s.tb.Fatal(err)
		}
		for _, o := range page.Contents {
			names = append(names, aws.ToString(o.Key))
		}
	}
	return names
}

// makeCertificate makes an authority and a certificate for 127.0.0.1.
func (s *Server) makeCertificate() {
	s.tb.Helper()
	check := func(err error) {
		if err != nil {
			s.tb.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pgmedic test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(s.dir, name)
		check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	s.CACertFile = write("ca.pem", "CERTIFICATE", caDER)
	s.certArgs = []string{"--cert", write("cert.pem", "CERTIFICATE", der), "--key", write("key.pem", "PRIVATE KEY", keyDER)}
}

// trusting returns a client that trusts CACertFile.
func (s *Server) trusting() *http.Client {
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.CACertFile)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		s.tb.Fatalf("read the test's authority: %v", err)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
}
