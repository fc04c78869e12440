// A foreign client of the saga's topics: franz-go, its schema registry client and hamba/avro, and no code of ours.
//
//	foreign read  BROKERS REGISTRY TOPIC COUNT     prints COUNT records as JSON lines
//	foreign write BROKERS REGISTRY TOPIC SUBJECT   writes a record for each JSON line of standard input
//
// A line is {"key": text, "headers": {name: text}, "value": record}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

type line struct {
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Value   any               `json:"value"`
}

func main() {
	if len(os.Args) != 6 {
		fail(fmt.Errorf("expected: read|write BROKERS REGISTRY TOPIC COUNT|SUBJECT"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	brokers, topic := strings.Split(os.Args[2], ","), os.Args[4]
	registry, err := sr.NewClient(sr.URLs(os.Args[3]))
	check(err)
	if os.Args[1] == "write" {
		write(ctx, brokers, registry, topic, os.Args[5])
		return
	}
	count, err := strconv.Atoi(os.Args[5])
	check(err)
	read(ctx, brokers, registry, topic, count)
}

func read(ctx context.Context, brokers []string, registry *sr.Client, topic string, count int) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	check(err)
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for read := 0; read < count; {
		fetches := client.PollFetches(ctx)
		check(ctx.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			if read++; read <= count {
				check(out.Encode(decoded(ctx, registry, record)))
			}
		})
	}
}

func decoded(ctx context.Context, registry *sr.Client, record *kgo.Record) line {
	var header sr.ConfluentHeader
	id, body, err := header.DecodeID(record.Value)
	check(err)
	found, err := registry.SchemaByID(ctx, id)
	check(err)
	schema, err := avro.Parse(found.Schema)
	check(err)
	read := line{Key: string(record.Key), Headers: map[string]string{}}
	check(avro.Unmarshal(schema, body, &read.Value))
	for _, header := range record.Headers {
		read.Headers[header.Key] = string(header.Value)
	}
	return read
}

func write(ctx context.Context, brokers []string, registry *sr.Client, topic, subject string) {
	found, err := registry.SchemaByVersion(ctx, subject, -1)
	check(err)
	schema, err := avro.Parse(found.Schema.Schema)
	check(err)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	check(err)
	defer client.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var given line
		check(json.Unmarshal(lines.Bytes(), &given))
		body, err := avro.Marshal(schema, given.Value)
		check(err)
		var header sr.ConfluentHeader
		value, err := header.AppendEncode(nil, found.ID, nil)
		check(err)
		record := &kgo.Record{Key: []byte(given.Key), Value: append(value, body...)}
		for name, text := range given.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(text)})
		}
		check(client.ProduceSync(ctx, record).FirstErr())
	}
	check(lines.Err())
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "foreign:", err)
	os.Exit(1)
}
