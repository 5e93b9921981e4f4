"""A receiver of OTLP metrics, made of OpenTelemetry's own definitions: keeps the last message as JSON.

usage: otlp.py PORT COUNTS_FILE
"""

import os
import sys
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc


class Receiver(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, path):
        self.path = path

    def Export(self, request, context):
        with open(self.path + ".new", "w") as file:
            file.write(MessageToJson(request))
        os.replace(self.path + ".new", self.path)
        return metrics_service_pb2.ExportMetricsServiceResponse()


def main():
    port, counts = sys.argv[1:3]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    receiver = Receiver(os.path.join(os.path.dirname(counts), "metrics.json"))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(receiver, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


main()
