// Classifies an image with files that `export --raw-input` wrote for MXNet, by MXNet's C interface and JNA.
//
//   java -cp jna.jar:. -Djna.library.path=FOLDER_OF_LIBMXNET PredictMxnet OUT IMAGE [bgr]
//
// OUT: prefix of OUT-symbol.json and OUT-0000.params. IMAGE: what Java reads (PNG, JPEG, ...), already of the size that
// the network takes. bgr: if "channel_order" is that in OUT.json. Prints the five likeliest classes with their
// probabilities. MXNet fuses the graph; with MXNET_SUBGRAPH_BACKEND=NONE it does not, for "fused": false in OUT.json.

import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.IntByReference;
import com.sun.jna.ptr.PointerByReference;
import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.IntStream;
import javax.imageio.ImageIO;

public class PredictMxnet {
    /** The functions of c_predict_api.h that are used; each returns 0, or leaves a message. */
    public interface Mxnet extends Library {
        String MXGetLastError();

        int MXPredCreate(
                String json, byte[] params, int bytes, int device, int number, int inputs, String[] names,
                int[] dimensions, int[] shape, PointerByReference network);

        int MXPredSetInput(Pointer network, String name, float[] values, int size);

        int MXPredForward(Pointer network);

        int MXPredGetOutputShape(Pointer network, int output, PointerByReference shape, IntByReference rank);

        int MXPredGetOutput(Pointer network, int output, float[] values, int size);

        int MXPredFree(Pointer network);
    }

    private static final int CPU = 1;
    private static final Mxnet MXNET = Native.load("mxnet", Mxnet.class);

    public static void main(String[] arguments) throws IOException {
        BufferedImage image = ImageIO.read(new File(arguments[1]));
        boolean bgr = arguments.length > 2 && arguments[2].equals("bgr");
        float[] logits = logits(arguments[0], planes(image, bgr), image.getHeight(), image.getWidth());
        int[] order = IntStream.range(0, logits.length)
                .boxed()
                .sorted((a, b) -> Float.compare(logits[b], logits[a]))
                .mapToInt(i -> i)
                .toArray();
        float largest = logits[order[0]];
        double sum = Arrays.stream(order).mapToDouble(i -> Math.exp(logits[i] - largest)).sum();
        for (int i : Arrays.copyOf(order, Math.min(5, order.length))) {
            System.out.printf(Locale.ROOT, "%d %.6f%n", i, Math.exp(logits[i] - largest) / sum);
        }
    }

    /** (3, height, width), 0..255. */
    private static float[] planes(BufferedImage image, boolean bgr) {
        int width = image.getWidth();
        int area = image.getHeight() * width;
        float[] planes = new float[3 * area];
        for (int i = 0; i < area; i++) {
            int pixel = image.getRGB(i % width, i / width);
            for (int channel = 0; channel < 3; channel++) {
                planes[channel * area + i] = pixel >> 8 * (bgr ? channel : 2 - channel) & 255;
            }
        }
        return planes;
    }

    private static float[] logits(String prefix, float[] planes, int height, int width) throws IOException {
        String json = Files.readString(Path.of(prefix + "-symbol.json"));
        byte[] params = Files.readAllBytes(Path.of(prefix + "-0000.params"));
        PointerByReference created = new PointerByReference();
        check(MXNET.MXPredCreate(json, params, params.length, CPU, 0, 1, new String[] {"data"}, new int[] {0, 4},
                new int[] {1, 3, height, width}, created));
        Pointer network = created.getValue();
        check(MXNET.MXPredSetInput(network, "data", planes, planes.length));
        check(MXNET.MXPredForward(network));
        PointerByReference shape = new PointerByReference();
        IntByReference rank = new IntByReference();
        check(MXNET.MXPredGetOutputShape(network, 0, shape, rank));
        int size = Arrays.stream(shape.getValue().getIntArray(0, rank.getValue())).reduce(1, (a, b) -> a * b);
        float[] logits = new float[size];
        check(MXNET.MXPredGetOutput(network, 0, logits, size));
        check(MXNET.MXPredFree(network));
        return logits;
    }

    private static void check(int status) {
        if (status != 0) {
            throw new IllegalStateException(MXNET.MXGetLastError());
        }
    }
}
