import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** PUT, GET and DELETE of a file with Java's own client, which offers h2c with every request. Arguments: URL of the
 * operations, token, path of the file, "HTTP_2" or "HTTP_1_1". Prints one line for each response. */
public final class Client {
    public static void main(String[] args) throws Exception {
        String ops = args[0], token = args[1], path = args[2];
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.valueOf(args[3])).build();
        HttpRequest.BodyPublisher small = HttpRequest.BodyPublishers.ofString("hello");
        HttpRequest.BodyPublisher large = HttpRequest.BodyPublishers.ofByteArray(new byte[1_000_000]);
        HttpRequest.BodyPublisher stream = HttpRequest.BodyPublishers.ofInputStream(
            () -> new java.io.ByteArrayInputStream(new byte[100_000]));
        send(client, to(ops, token, "upload", path).PUT(small));
        send(client, to(ops, token, "download", path).GET());
        send(client, to(ops, token, "upload", path).PUT(large));
        send(client, to(ops, token, "download", path).GET());
        send(client, to(ops, token, "upload", path).PUT(stream));
        send(client, to(ops, token, "download", path).GET());
        send(client, to(ops, token, "upload", path).expectContinue(true).PUT(small));
        send(client, to(ops, token, "download", path).method("HEAD", HttpRequest.BodyPublishers.noBody()));
        send(client, to(ops, token, "rm", path).DELETE());
    }

    private static HttpRequest.Builder to(String ops, String token, String operation, String path) {
        return HttpRequest.newBuilder(URI.create(ops + operation + "?path=" + path)).timeout(Duration.ofSeconds(30))
            .header("Authorization", "Bearer " + token);
    }

    private static void send(HttpClient client, HttpRequest.Builder request) throws Exception {
        HttpResponse<byte[]> response = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        System.out.println(response.version() + " " + response.request().method() + " " + response.statusCode()
            + " " + response.body().length);
    }
}
