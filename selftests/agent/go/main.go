// SPDX-License-Identifier: Apache-2.0

// An agent by grpc-go, which is what SPIRE's agent speaks with: the same HTTP/2, the same limits on
// pings, the same leave-taking. Messages come ready-made.
//
// Usage: agent SOCKET. Commands on stdin:
//
//	answer METHOD BASE64   to all open streams of the method, and first on each new one
//	leave                  graceful: GOAWAY, then waits for the streams that are open
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Bytes as they are.
type raw struct{}

func (raw) Name() string                    { return "proto" }
func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil }

type agent struct {
	sync.Mutex
	first   map[string][]byte
	streams map[string]map[chan []byte]bool
}

func (a *agent) open(method string) chan []byte {
	a.Lock()
	defer a.Unlock()
	channel := make(chan []byte, 100)
	if a.streams[method] == nil {
		a.streams[method] = map[chan []byte]bool{}
	}
	a.streams[method][channel] = true
	if first, there := a.first[method]; there {
		channel <- first
	}
	return channel
}

func (a *agent) close(method string, channel chan []byte) {
	a.Lock()
	defer a.Unlock()
	delete(a.streams[method], channel)
}

func (a *agent) put(method string, message []byte) {
	a.Lock()
	defer a.Unlock()
	a.first[method] = message
	for channel := range a.streams[method] {
		channel <- message
	}
}

func (a *agent) serve(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	method := full[strings.LastIndex(full, "/")+1:]
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	// Workload Endpoint section 6.
	headers, _ := metadata.FromIncomingContext(stream.Context())
	if security := headers.Get("workload.spiffe.io"); len(security) != 1 || security[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	channel := a.open(method)
	defer a.close(method, channel)
	for {
		select {
		case message := <-channel:
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func main() {
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	a := &agent{first: map[string][]byte{}, streams: map[string]map[chan []byte]bool{}}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(a.serve))
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "answer":
			message, err := base64.StdEncoding.DecodeString(words[2])
			if err != nil {
				log.Fatal(err)
			}
			a.put(words[1], message)
		case "leave":
			server.GracefulStop()
			fmt.Println("left")
		}
	}
}
