package main

import "strings"

// remedy is what to do about an error with these words.
type remedy struct{ words, do string }

var redisRemedies = []remedy{
	{"OOM ", "raise maxmemory there, or see which queue is long and why (worker top); leave noeviction, and never FLUSHALL"},
	{"READONLY ", "give the master in redis.url, or use redis.sentinel, which finds it"},
	{"MISCONF ", "Redis cannot save to its disk: make room there; its log says why"},
	{"NOAUTH ", "set redis.username and redis.password"},
	{"WRONGPASS ", "mend redis.username and redis.password; ACL LIST there shows the users, and whether they are on"},
	{"LOADING ", "Redis reads its files after a start: wait"},
	{"unknown authority", "set redis.tls.ca_file to the authority that signed the server's certificate"},
	{"x509:", "the server's certificate must be valid now and for the name in redis.url"},
	{"EOF", "it closed the connection without a word, as one does that expects TLS: set redis.tls.enabled, or write rediss:// in redis.url"},
	{"connection refused", "nobody listens there: is Redis running, and does redis.url name it?"},
	{"no such host", "the name of redis.url is unknown here: mend it, or the machine's DNS"},
}

const redisAway = "is it running, does redis.url name it, does a firewall stand between?"

var storageRemedies = []remedy{
	{"NoSuchBucket", "create the bucket, or mend storage.bucket"},
	{"InvalidAccessKeyId", "the store knows no such key: mend storage.access_key"},
	{"SignatureDoesNotMatch", "mend storage.secret_key: it is not that of the access key"},
	{"RequestTimeTooSkewed", "set the clock of this machine"},
	{"the access key needs", "give the key the rights of deploy/s3/bucket-policy.json"},
	{"check the region", "mend storage.region and storage.endpoint"},
	{"InsufficientStorage", "make room in the store: worker sweep, or a shorter retention.results"},
	{"HTTP response to HTTPS", "the store speaks no TLS on that port: give its TLS port, or set storage.tls to false"},
	{"unknown authority", "set storage.ca_file to the authority that signed the store's certificate"},
	{"x509:", "the store's certificate must be valid now and for the name in storage.endpoint"},
	{"Connection closed", "it closed the connection without a word, as one does that expects TLS: set storage.tls to true"},
	{"connection refused", "nobody listens there: is the store running, and does storage.endpoint name it?"},
	{"no such host", "the name of storage.endpoint is unknown here: mend it, or the machine's DNS"},
	{"permission denied", "let the worker's user write storage.directory"},
}

const storageAway = "is it running, do endpoint, bucket, keys and TLS fit, and does the key have the rights of deploy/s3/bucket-policy.json?"

// remedyOf finds the remedy of an error; otherwise is for one that is not known.
func remedyOf(err error, known []remedy, otherwise string) string {
	text := err.Error()
	for _, r := range known {
		if strings.Contains(text, r.words) {
			return r.do
		}
	}
	return otherwise
}
